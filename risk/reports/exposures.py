"""The facts of concentration, leverage, correlated exposure and deficits against funds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from risk.reports import choose
from risk.reports.fact_groups import Add
from risk.reports.inputs import ReportInputs
from risk.reports.view import slug

#: Levels the book's spread is shown by; the whole book first.
LEVELS = ("total", "venue", "asset", "book", "account")

#: Share of the notional from which an account is a large one.
LARGE = 0.001

#: Accounts in the fact table: so many of the largest by each measure.
N_ACCOUNTS = 50

EXPOSURES = pa.schema(
    [
        pa.field("level", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("n_groups", pa.int64(), nullable=False),
        pa.field("herfindahl", pa.float64(), nullable=False),
        pa.field("n_positions", pa.int64(), nullable=False),
        pa.field("notional_usd", pa.float64(), nullable=False),
        pa.field("equity_usd", pa.float64(), nullable=False),
        pa.field("market_exposure_usd", pa.float64()),
        pa.field("correlated_loss_usd", pa.float64()),
    ]
)

#: Measure: unit, decimals and words. A limit's scope by level is the end of their ids.
SPREAD = {
    "notional": ("USD", None, "notional, options by delta"),
    "notional_share": ("%", 2, "share of the notional"),
    "leverage": ("x", 2, "notional over equity"),
    "market_exposure": ("USD", None, "net exposure times beta to the market"),
    "market_exposure_share": ("%", 1, "absolute market exposure over equity"),
    "correlated_loss_share": (
        "%",
        1,
        "one sigma of every asset against the net holding, of equity",
    ),
}


def exposure_facts(
    inputs: ReportInputs, add: Add, rows: Mapping[str, tuple[float | None, str, int, str]]
) -> None:
    """Facts by level and group, and those of the shortfall and the deficits beside them."""
    _fund_facts(inputs, add)
    if inputs.exposures is None:
        return
    every = inputs.exposures.to_pylist()
    listed = set(dict(spread_rows(inputs)).get("account", ()))
    equity = {(row["level"], row["group"]): row["equity_usd"] for row in every}
    total = math.fsum(row["notional_usd"] for row in every if row["level"] == "total")
    for level in LEVELS:
        mine = [row for row in every if row["level"] == level]
        found = [(row["group"], _spread(row, total)) for row in mine]
        for measure, (unit, decimals, words) in SPREAD.items():
            values = [(group, measured[measure]) for group, measured in found]
            if level == "account":
                values = _largest(values, listed)
            for group, value in values:
                if value is None:  # not known: a null would stand for one without bound
                    continue
                scope = f"{words}, {level} {group}"
                add(f"{measure}.{level}.{slug(group)}", value, unit, scope, decimals)
        if level != "total":
            spread = mine[0]["herfindahl"] if mine else None
            add(f"herfindahl.{level}", spread, "1", f"sum of squared shares by {level}", 3)
            effective = 1.0 / spread if spread else None
            add(f"herfindahl.effective.{level}", effective, "1", f"equal ones of {level}", 1)
            add(f"herfindahl.n.{level}", mine[0]["n_groups"] if mine else 0, "1", level)
    add("exposure.large", 100.0 * LARGE, "%", "share of the notional of a large account", 1)
    _shortfall_facts(inputs, add, rows, equity)
    worst, cover = (
        rows.get(name, (None,))[0] for name in ("stress.worst_deficit", "capital.cover_2")
    )
    share = 100.0 * cover / worst if worst and cover is not None else None
    add("deficit_share.cover_2", share, "%", "two largest account deficits over the worst deficit")


def _spread(row: Mapping[str, Any], total: float) -> dict[str, float | None]:
    notional, equity = row["notional_usd"], row["equity_usd"]
    market, loss = row["market_exposure_usd"], row["correlated_loss_usd"]
    return {
        "notional": notional,
        "notional_share": 100.0 * notional / total if total else None,
        "leverage": _over(notional, equity),
        "market_exposure": market,
        "market_exposure_share": None if market is None else _over(100.0 * abs(market), equity),
        "correlated_loss_share": None if loss is None else _over(100.0 * loss, equity),
    }


def _over(amount: float, equity: float) -> float:
    """An amount against equity: without bound where there is none to bear it."""
    if equity > 0.0:
        return amount / equity
    return math.inf if amount > 0.0 else 0.0


def _largest(
    values: list[tuple[str, float | None]], page: set[str]
) -> list[tuple[str, float | None]]:
    """The largest accounts by this measure, and those the page lists."""
    order = sorted(values, key=lambda pair: (-abs(pair[1] or 0.0), pair[0]))
    return [*order[:N_ACCOUNTS], *(pair for pair in order[N_ACCOUNTS:] if pair[0] in page)]


def _shortfall_facts(
    inputs: ReportInputs,
    add: Add,
    rows: Mapping[str, tuple[float | None, str, int, str]],
    equity: Mapping[tuple[str, str], float],
) -> None:
    """The headline expected shortfall of each group over its own equity."""
    top = choose.headline(inputs)
    for level in choose.levels(inputs):
        for group in choose.group_names(inputs, level):
            wanted = choose.measure_id(
                "expected_shortfall", top.scenario_set, level, group, top.expected_shortfall
            )
            loss, held = rows[wanted][0], equity.get((level, group))
            if loss is not None and held is not None:
                scope = f"{wanted} over the equity of {level} {group}"
                share = _over(100.0 * loss, held)
                add(f"expected_shortfall_share.{level}.{slug(group)}", share, "%", scope, 2)


def _fund_facts(inputs: ReportInputs, add: Add) -> None:
    """Deficits of each venue over its own fund, in the headline set's tail and in the stresses."""
    balances = choose.fund_balances(inputs)
    unknown = choose.funds_without_price(inputs)
    top = choose.headline(inputs)
    if "venue" in inputs.measures.children:
        node = inputs.measures["venue"].dataset
        if "deficit_expected_shortfall_999" in node:
            deficits = node["deficit_expected_shortfall_999"].sel(scenario_set=top.scenario_set)
            for venue, value in zip(deficits["group"].values, deficits.values, strict=True):
                name, scope = str(venue), f"deficit ES 99.9 over the fund of {venue}"
                if name not in unknown:
                    use = _over(100.0 * float(value), balances.get(name, 0.0))
                    add(f"fund_use.venue.{slug(name)}", use, "%", scope)
    venues, by_venue, funds = choose.deficit_beside_fund(inputs)
    for at, name in enumerate(venues):
        if by_venue.shape[0] and name not in unknown:
            use = _over(100.0 * float(by_venue[:, at].max()), float(funds[at]))
            scope = f"worst stress deficit over the fund of {name}"
            add(f"stress_fund_use.venue.{slug(name)}", use, "%", scope)


def spread_rows(inputs: ReportInputs) -> list[tuple[str, list[str]]]:
    """Groups of each level that the page lists: the largest by notional."""
    if inputs.exposures is None:
        return []
    listed = sorted(
        inputs.exposures.to_pylist(), key=lambda row: (-row["notional_usd"], row["group"])
    )
    found = [
        (level, [row["group"] for row in listed if row["level"] == level][: choose.N_GROUPS])
        for level in LEVELS
    ]
    return [(level, groups) for level, groups in found if groups]


def group_words(inputs: ReportInputs) -> dict[tuple[str, str], str]:
    """Name of each group by level and by what stands for it in an id."""
    names: dict[tuple[str, str], str] = {}
    for level in choose.levels(inputs):
        names |= {(level, slug(name)): name for name in choose.group_names(inputs, level)}
    if inputs.exposures is not None:
        pairs = zip(
            inputs.exposures["level"].to_pylist(),
            inputs.exposures["group"].to_pylist(),
            strict=True,
        )
        names |= {(level, slug(name)): name for level, name in pairs}
    return names | {("venue", slug(name)): name for name in choose.venues(inputs)}
