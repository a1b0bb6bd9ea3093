"""The officer's report: one static HTML file that opens anywhere, offline."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import jinja2
import pyarrow as pa
from markupsafe import Markup

from risk.reports import charts, choose, headlines, more_charts
from risk.reports.exposures import group_words, spread_rows
from risk.reports.inputs import ReportInputs
from risk.reports.limits import LimitState, first_change, limit_changes
from risk.reports.view import Facts, label, slug

#: Glyph and word of a state: colour never stands alone.
STATES = {
    "breach": ("▲", "Breach"),
    "warning": ("◆", "Warning"),
    "within": ("●", "Within limits"),
    "note": ("■", "Note"),
    "not evaluated": ("○", "Not evaluated"),
    "pass": ("●", "Pass"),
    "warn": ("◆", "Warn"),
    "fail": ("▲", "Fail"),
}


def render_officer(facts: pa.Table, inputs: ReportInputs) -> str:
    """Render ``report.html``.

    Parameters
    ----------
    facts : Table
        From ``collect_facts`` on the same inputs.
    inputs : ReportInputs
        Results of one run: structure and text; its numbers are printed only from `facts`.

    Returns
    -------
    str
        HTML without any reference outside itself, the same for the same arguments.
    """
    view = Facts(facts)
    top = choose.headline(inputs)
    states = headlines.limit_states(view, inputs)
    return render(
        "officer.html.j2",
        view,
        inputs,
        top=top,
        sentences=headlines.headlines(view, inputs),
        state_of_run=headlines.overall_state(view, inputs),
        limits=states,
        changes=limit_changes(inputs, view.values(), states),
        first_change=first_change,
        whose=_whose(inputs),
        spread=spread_rows(inputs),
        charts=_charts(view, inputs),
        section_charts={
            section.name: {name: draw(view) for name, draw in section.charts.items()}
            for section in inputs.sections
        },
        **_worst(view, inputs),
    )


def render(template: str, view: Facts, inputs: ReportInputs, **context: Any) -> str:
    """Fill a template; a name it uses and nobody gave is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("risk.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, css = (source(environment, name) for name in ("script.js", "style.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    run_id = inputs.run.run_id
    context.update(
        n=view.number,
        facts=view,
        has=view.__contains__,
        label=label,
        slug=slug,
        mid=choose.measure_id,
        choose=choose,
        inputs=inputs,
        run=inputs.run,
        states=STATES,
        group=choose.group_names(inputs, "total")[0],
        unit=view.money_unit,
        cutoff=inputs.as_of + timedelta(days=1),
        below_floor=choose.below_floor(inputs),
        width=_width,
        style=Markup(css),
        script=Markup(script),
        script_digest=digest,
        # Only a plain id may enter the style sheet's page footer.
        footer_id=run_id if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", run_id) else "",
    )
    return environment.get_template(template).render(**context)


def source(environment: jinja2.Environment, name: str) -> str:
    """Text of a file beside the templates."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _charts(view: Facts, inputs: ReportInputs) -> Mapping[str, Markup | None]:
    has_stress = bool(inputs.stresses.sizes["scenario"])
    has_curves = bool(inputs.curves.sizes["asset"] and inputs.curves.sizes["move"])
    return {
        "sides": charts.two_sides(view, inputs) if has_stress else None,
        "distribution": charts.distribution(view, inputs) if inputs.totals else None,
        "intervals": more_charts.intervals(view, inputs),
        "funds": more_charts.fund_use(view, inputs) if inputs.funds.num_rows else None,
        "curves": more_charts.liquidation_curves(view, inputs) if has_curves else None,
        "distances": more_charts.distances(view, inputs)
        if inputs.margin.distance.sizes["bin"]
        else None,
    }


def _whose(inputs: ReportInputs) -> Callable[[LimitState, str], str]:
    """Name of the group that a fact of a limit by level is about."""
    names = group_words(inputs)

    def whose(state: LimitState, fact_id: str) -> str:
        group = fact_id.rpartition(".")[2]
        return names.get((state.limit.level or "", group), group)

    return whose


def _worst(view: Facts, inputs: ReportInputs) -> dict[str, str | None]:
    """Names of the worst stresses, the most used fund and the largest contributor."""
    stresses = inputs.stresses
    names: dict[str, str | None] = {"worst_loss": None, "worst_deficit": None, "worst_venue": None}
    if stresses.sizes["scenario"]:
        loss = choose.worst_stress(inputs, -stresses["pnl"].values)
        deficit = choose.worst_stress(inputs, stresses["deficit"].values)
        assert loss is not None
        assert deficit is not None
        names["worst_loss"] = choose.stress_label(inputs, loss)
        names["worst_deficit"] = choose.stress_label(inputs, deficit)
        venues = choose.deficit_beside_fund(inputs)[0]
        uses = {venue: _infinite(view, venue) for venue in venues}
        names["worst_venue"] = max(uses, key=lambda venue: uses[venue]) if uses else None
    return names


def _infinite(view: Facts, venue: str) -> float:
    use = view.value(f"fund.use.{slug(venue)}")
    return float("inf") if use is None else use


def _width(part: float | None, whole: float | None) -> str:
    """Length of a bar inside a table cell, as a percentage."""
    if part is None or not whole:
        return "0"
    return f"{max(0.0, min(100.0, 100.0 * part / whole)):.1f}"
