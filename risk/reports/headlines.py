"""The sentences at the top of the report, written from facts, breaches first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from risk.reports import choose
from risk.reports.exposures import group_words
from risk.reports.inputs import ReportInputs
from risk.reports.limits import LimitState, evaluate_limits
from risk.reports.view import Facts, label

State = Literal["breach", "warning", "within", "note"]

N_LIMIT_LINES = 6


@dataclass(frozen=True)
class Sentence:
    """One headline: its weight, its words, the section that explains it."""

    state: State
    text: Markup
    anchor: str


def limit_states(facts: Facts, inputs: ReportInputs) -> tuple[LimitState, ...]:
    """Stand of the limits, in the order of the ``limit.<rank>`` facts."""
    values = facts.values()
    stress = inputs.stresses
    if stress.sizes["scenario"] and values.get("stress.worst_fund_use") is None:
        values["stress.worst_fund_use"] = np.inf
    return evaluate_limits(inputs.limits, values)


def overall_state(facts: Facts, inputs: ReportInputs) -> State:
    """The worst of coverage, limits and funds; breach is exit status 3."""
    states = {item.state for item in limit_states(facts, inputs)}
    if choose.below_floor(inputs) or choose.unreconciled(inputs) or "breach" in states:
        return "breach"
    uncovered = facts.value("stress.worst_uncovered")
    if "warning" in states or (uncovered or 0.0) > 0.0:
        return "warning"
    return "within"


def headlines(facts: Facts, inputs: ReportInputs) -> list[Sentence]:
    """What a risk officer must know first."""
    found = [
        *_coverage(facts, inputs),
        *_limits(facts, inputs),
        *_funds(facts, inputs),
        *_stress(facts, inputs),
        *_tail(facts, inputs),
    ]
    order: tuple[State, ...] = ("breach", "warning", "within", "note")
    return sorted(found, key=lambda sentence: order.index(sentence.state))


def _coverage(facts: Facts, inputs: ReportInputs) -> list[Sentence]:
    below = choose.below_floor(inputs)
    if choose.coverage_row(inputs, "priced") is None:
        return [Sentence("breach", Markup("The run has no coverage table."), "coverage")]
    words = {
        "count": facts.number("coverage.share.priced", unit=True),
        "notional": facts.number("coverage.notional_share.priced", unit=True),
        "floor": facts.number("coverage.floor", unit=True),
    }
    if below:
        text = "Only {notional} of the notional and {count} of the positions are priced, below "
        text += "the floor of {floor}: every number in this report is partial."
    else:
        text = "{count} of the positions and {notional} of the notional are priced; the floor is "
        text += "{floor}."
    state: State = "breach" if below else "note"
    found = [Sentence(state, Markup(text).format(**words), "coverage")]
    if choose.unreconciled(inputs):
        text = "{n} of {all} totals do not reconcile: no number of this report can be relied on."
        words = {"n": facts.number("reconciled.failed"), "all": facts.number("reconciled.all")}
        found.insert(0, Sentence("breach", Markup(text).format(**words), "coverage"))
    return found


def _limits(facts: Facts, inputs: ReportInputs) -> list[Sentence]:
    found: list[Sentence] = []
    names = group_words(inputs)
    for rank, item in enumerate(limit_states(facts, inputs), 1):
        if item.state not in ("breach", "warning") or len(found) == N_LIMIT_LINES:
            continue
        state: State = "breach" if item.state == "breach" else "warning"
        level = f"limit.{rank}.{state}"
        text = "{name}{whose}: {used} against a {word} level of {level}{more}. Owner: {owner}."
        sentence = Markup(text).format(
            name=label(item.limit.name),
            whose=Markup(" ({})").format(label(_group(item, names))) if item.n_groups > 1 else "",
            more=_how_many(facts, rank, item.limit.where) if item.group else "",
            used=facts.number(f"limit.{rank}.used", unit=True, missing="n/a (unbounded)"),
            word=state,
            level=facts.number(level, unit=True),
            owner=label(item.limit.owner),
        )
        found.append(Sentence(state, sentence, "limits"))
    return found


def _group(item: LimitState, names: Mapping[tuple[str, str], str]) -> str:
    return names.get((item.limit.level or "", item.group), item.group)


def _how_many(facts: Facts, rank: int, where: str) -> Markup:
    """Of how many groups a limit by level was crossed, where it was judged by more than one."""
    if (facts.value(f"limit.{rank}.n_groups") or 0) < 2:
        return Markup("")
    return Markup("; {where}, {bad} in breach and {near} at warning of {all}").format(
        where=label(where),
        bad=facts.number(f"limit.{rank}.n_breach"),
        near=facts.number(f"limit.{rank}.n_warning"),
        all=facts.number(f"limit.{rank}.n_groups"),
    )


def _funds(facts: Facts, inputs: ReportInputs) -> list[Sentence]:
    uncovered = facts.value("stress.worst_uncovered")
    if uncovered is None:
        return []
    if uncovered > 0.0:
        index = worst_uncovered(facts, inputs)
        text = "{stress} runs {amount} past the insurance funds of its venues."
        sentence = Markup(text).format(
            stress=label(choose.stress_label(inputs, index)),
            amount=facts.number("stress.worst_uncovered", unit=True),
        )
        return [Sentence("warning", sentence, "venue")]
    text = "Every insurance fund pays for its own venue in every stress; the most used loses {use}."
    use = facts.number("stress.worst_fund_use", unit=True)
    return [Sentence("within", Markup(text).format(use=use), "venue")]


def worst_uncovered(facts: Facts, inputs: ReportInputs) -> int:
    """Index of the stress that runs furthest past the funds."""
    _, by_venue, funds = choose.deficit_beside_fund(inputs)
    return int(np.argmax(np.maximum(by_venue - funds, 0.0).sum(axis=1)))


def _stress(facts: Facts, inputs: ReportInputs) -> list[Sentence]:
    index = choose.worst_stress(inputs, -inputs.stresses["pnl"].values)
    if index is None:
        return [Sentence("note", Markup("The run holds no named stress."), "stress")]
    title = choose.stress_label(inputs, index)
    key = choose.slug(title)
    if (facts.value("stress.worst_loss") or 0.0) > 0.0:
        text = "{stress} is the worst stress for the holders: they lose {loss} and {count} "
        text += "positions are liquidated; {deficit} runs past their collateral to the venues."
    else:
        text = "No stress makes the holders as a whole lose, since longs and shorts offset; in "
        text += "{stress}, the least good, {count} positions are liquidated and {deficit} runs "
        text += "past their collateral to the venues."
    sentence = Markup(text).format(
        stress=label(title),
        loss=facts.number("stress.worst_loss", unit=True),
        count=facts.number(f"stress.liquidations.{key}"),
        deficit=facts.number(f"stress.deficit.{key}", unit=True),
    )
    return [Sentence("note", sentence, "stress")]


def _tail(facts: Facts, inputs: ReportInputs) -> list[Sentence]:
    top = choose.headline(inputs)
    group = choose.group_names(inputs, "total")[0]

    def id_of(variable: str, confidence: float | None = None) -> str:
        return choose.measure_id(variable, top.scenario_set, "total", group, confidence)

    text = "Value at risk {level} % is {var}, expected shortfall {es_level} % is {es} ({set}); in "
    text += "{level} % of the scenarios no more than {count} positions are liquidated."
    sentence = Markup(text).format(
        level=facts.number(f"parameter.confidence.{top.value_at_risk:g}"),
        var=facts.number(id_of("value_at_risk", top.value_at_risk), unit=True),
        es_level=facts.number(f"parameter.confidence.{top.expected_shortfall:g}"),
        es=facts.number(id_of("expected_shortfall", top.expected_shortfall), unit=True),
        set=choose.words(top.scenario_set, choose.SET_WORDS),
        count=facts.number(id_of("liquidations_p99")),
    )
    return [Sentence("note", sentence, "measures")]
