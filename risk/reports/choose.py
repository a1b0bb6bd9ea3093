"""What a page shows of a run: the headline set, the rows kept, the worst cases.

Facts, charts and tables all ask here, so that they speak of the same things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from risk.reports.inputs import ReportInputs
from risk.reports.view import slug

#: Words for the scenario sets and levels that have a usual name.
SET_WORDS = {
    "monte_carlo": "Monte Carlo",
    "historical": "Historical",
    "historical_filtered": "Filtered historical",
    "stress": "Stress",
}
METHOD_WORDS = {
    "ladder": "looked up on ladders",
    "steps": "cut in steps, lived again in gaps",
    "options": "options, by contract and step",
    "pools": "cross-margin pools, by the kernel of last resort",
    "apart": "isolated with much funding, by the same kernel",
}
LEVEL_WORDS = {
    "total": "Whole book",
    "asset": "Asset",
    "venue": "Venue",
    "side": "Side",
    "kind": "Kind",
    "book": "Book",
    "settle": "Settle",
}

MOVES = (-0.5, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.5)
N_CURVES = 6
N_CURVE_ROWS = 10
N_CONTRIBUTORS = 10
N_BARS = 8
N_ACCOUNTS = 20
N_WORST = 8
N_STRESSES = 40
N_GROUPS = 10
N_REASONS = 12


@dataclass(frozen=True)
class Headline:
    """Which numbers the first page speaks of."""

    scenario_set: str
    value_at_risk: float
    expected_shortfall: float


def words(name: str, table: dict[str, str]) -> str:
    """A usual name, or the identifier with spaces."""
    return table.get(name, name.replace("_", " ").capitalize())


def levels(inputs: ReportInputs) -> list[str]:
    """Roll-up levels of the run, the whole book first."""
    return sorted(inputs.measures.children, key=_place)


def _place(level: str) -> tuple[int, str]:
    """Where a level stands in the report: the known ones in their order, then by name."""
    known = list(LEVEL_WORDS)
    return (known.index(level) if level in known else len(known), level)


def scenario_sets(inputs: ReportInputs) -> list[str]:
    """Sets that carry a distribution; named stresses do not."""
    names = [str(name) for name in _total(inputs)["scenario_set"].values]
    kept = [name for name in names if name != "stress"]
    return sorted(kept, key=lambda name: name != "monte_carlo")


def confidences(inputs: ReportInputs) -> list[float]:
    """Levels the measures were taken at."""
    return [float(value) for value in _total(inputs)["confidence"].values]


def headline(inputs: ReportInputs) -> Headline:
    """Monte Carlo, VaR 99 % and ES 97.5 % where the run has them; else the nearest it has."""
    given = confidences(inputs)

    def nearest(wanted: float) -> float:
        return min(given, key=lambda value: (abs(value - wanted), value))

    return Headline(scenario_sets(inputs)[0], nearest(0.99), nearest(0.975))


def measure_id(
    variable: str, scenario_set: str, level: str, group: object, confidence: float | None = None
) -> str:
    """Id of one measure, as ``value_at_risk.monte_carlo.0.99.total.all``."""
    parts = [variable, scenario_set]
    if confidence is not None:
        parts.append(f"{confidence:g}")
    return ".".join([*parts, level, slug(group)])


def group_names(inputs: ReportInputs, level: str) -> list[str]:
    """Every group of a level, in the order of the measures."""
    return [str(name) for name in _node(inputs, level)["group"].values]


def shown_groups(inputs: ReportInputs, level: str) -> list[str]:
    """Groups of a level worth a row, largest headline expected shortfall first."""
    top = headline(inputs)
    node = _node(inputs, level)
    if "expected_shortfall" not in node or not node.sizes["group"]:
        return group_names(inputs, level)[:N_GROUPS]
    losses = node["expected_shortfall"].sel(
        scenario_set=top.scenario_set, confidence=top.expected_shortfall
    )
    order = np.argsort(-np.nan_to_num(losses.values), kind="stable")
    names = group_names(inputs, level)
    return [names[index] for index in order[:N_GROUPS]]


def stress_order(inputs: ReportInputs) -> list[int]:
    """Stresses shown, the largest loss of the holders first."""
    pnl = inputs.stresses["pnl"].values
    return [int(index) for index in np.argsort(pnl, kind="stable")[:N_STRESSES]]


def side_order(inputs: ReportInputs) -> list[int]:
    """Stresses worth a bar: the largest losses and the largest deficits, by loss."""
    order = stress_order(inputs)
    kept = {*order[:N_BARS], *deficit_order(inputs)[:N_BARS]}
    return [index for index in order if index in kept]


def deficit_order(inputs: ReportInputs) -> list[int]:
    """Stresses by deficit, the largest first."""
    deficits = -inputs.stresses["deficit"].values
    return [int(index) for index in np.argsort(deficits, kind="stable")]


def stress_sources(inputs: ReportInputs) -> list[tuple[str, list[str]]]:
    """Each source of the stresses with the titles it stands for, in the order shown."""
    sources: dict[str, list[str]] = {}
    for index in stress_order(inputs):
        source = str(inputs.stresses["source"].values[index])
        sources.setdefault(source, []).append(stress_label(inputs, index))
    return list(sources.items())


def estimators(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Each estimator with the measures it is used for."""
    found: dict[str, list[str]] = {}
    for name, words_ in inputs.run.estimators.items():
        found.setdefault(words_, []).append(name.replace("_", " "))
    return [(words_, ", ".join(names)) for words_, names in found.items()]


def stress_label(inputs: ReportInputs, index: int) -> str:
    """Title of one stress."""
    return str(inputs.stresses["label"].values[index])


def worst_stress(inputs: ReportInputs, values: np.ndarray) -> int | None:
    """Index of the largest of `values`, none where the run has no stress."""
    return int(np.argmax(values)) if values.size else None


def fund_balances(inputs: ReportInputs) -> dict[str, float]:
    """Insurance fund in USD by venue, sorted by venue; one without a price counts as nothing."""
    balances: dict[str, float] = {}
    for row in inputs.funds.to_pylist():
        balances[row["venue"]] = balances.get(row["venue"], 0.0) + (row["balance_usd"] or 0.0)
    return dict(sorted(balances.items()))


def funds_without_price(inputs: ReportInputs) -> set[str]:
    """Venues whose fund is in a coin that has no price here."""
    return {row["venue"] for row in inputs.funds.to_pylist() if row["balance_usd"] is None}


def deficit_beside_fund(inputs: ReportInputs) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Venues, their stress deficits (scenario, venue) and their funds (venue), all USD."""
    deficits = inputs.stresses["deficit_by_venue"].transpose("scenario", "venue")
    venues = [str(name) for name in deficits["venue"].values]
    balances = fund_balances(inputs)
    return venues, deficits.values, np.array([balances.get(venue, 0.0) for venue in venues])


def venues(inputs: ReportInputs) -> list[str]:
    """Every venue with a fund or a stress deficit, by name."""
    return sorted({*fund_balances(inputs), *deficit_beside_fund(inputs)[0]})


def typical_fall(inputs: ReportInputs) -> int:
    """Place in ``curve_moves`` of the move nearest to a fall of three tenths."""
    grid = inputs.curves["move"].values[curve_moves(inputs)]
    return int(np.argmin(np.abs(grid + 0.3)))


def curve_moves(inputs: ReportInputs) -> list[int]:
    """Points of the curve grid nearest to the round moves the table shows."""
    grid = inputs.curves["move"].values
    if not grid.size:
        return []
    return sorted({int(np.argmin(np.abs(grid - move))) for move in MOVES})


def curve_assets(inputs: ReportInputs, n: int) -> list[str]:
    """Assets with the most liquidated notional anywhere on their curve."""
    notional = inputs.curves["liquidated_notional"].transpose("asset", "move").values
    if not notional.size:
        return []
    order = np.argsort(-np.nan_to_num(notional).max(axis=1), kind="stable")[:n]
    return [str(inputs.curves["asset"].values[index]) for index in order]


def contributions(inputs: ReportInputs) -> dict[str, list[tuple[str, float]]]:
    """Label to (group, USD) of the headline expected shortfall, largest first."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in inputs.contributors.to_pylist():
        amount = row["expected_shortfall_contribution"]
        found.setdefault(row["label"], []).append((str(row["group"]), float(amount)))
    return {
        name: sorted(found[name], key=lambda pair: (-pair[1], pair[0]))
        for name in sorted(found, key=_place)
    }


def capital_id(row: dict[str, Any]) -> str:
    """Id of a further line of the capital page, as ``capital.internal_model.capital``."""
    parts = [*str(row["section"]).split("."), *str(row["line"]).split(".")]
    return ".".join(["capital", *(slug(part) for part in parts)])


def capital_sections(inputs: ReportInputs) -> list[list[dict[str, Any]]]:
    """Further lines of the capital page, grouped by rule, in their order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in inputs.capital.to_pylist() if inputs.capital is not None else ():
        groups.setdefault(row["section"], []).append(row)
    return list(groups.values())


class Scenario(NamedTuple):
    """A scenario by its name, with what the whole book does in it."""

    label: str
    source: str
    weight: float
    pnl: float


def worst_scenarios(pnl: xr.DataArray) -> list[Scenario]:
    """The worst scenarios of one set, worst first; unnamed ones by number, equally weighted."""
    values = pnl.values
    order = np.argsort(values, kind="stable")[:N_WORST]
    unnamed = {
        "label": np.arange(values.size),
        "source": np.full(values.size, ""),
        "weight": np.full(values.size, 1.0 / max(values.size, 1)),
    }
    label, source, weight = (
        pnl[name].values if name in pnl.coords else column for name, column in unnamed.items()
    )
    return [
        Scenario(str(label[i]), str(source[i]), float(weight[i]), float(values[i])) for i in order
    ]


def near_bin(inputs: ReportInputs) -> int:
    """How many bins of the distance histogram lie within a tenth of the mark."""
    upper = inputs.margin.distance["upper"].values
    return int(np.sum(upper <= 0.1 + 1e-12))


def coverage_row(inputs: ReportInputs, status: str) -> dict[str, Any] | None:
    """One row of the coverage table."""
    rows = [row for row in inputs.coverage.to_pylist() if row["status"] == status]
    return rows[0] if rows else None


def below_floor(inputs: ReportInputs) -> bool:
    """Whether less was priced than the floor, by count or by known notional."""
    row = coverage_row(inputs, "priced") or {"share": 0.0, "notional_share": None}
    shares = [share for share in (row["share"], row["notional_share"]) if share is not None]
    return any(not share >= inputs.coverage_floor for share in shares) or not shares


def unreconciled(inputs: ReportInputs) -> bool:
    """Whether a total differs from what it must be equal to."""
    return any(not one.is_equal for one in inputs.reconciled)


def finite(value: object) -> float | None:
    """A number, or none for what is missing, not a number or infinite."""
    if value is None:
        return None
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None


def _total(inputs: ReportInputs) -> xr.Dataset:
    return _node(inputs, "total")


def _node(inputs: ReportInputs, level: str) -> xr.Dataset:
    return inputs.measures[level].to_dataset()
