"""Collect every number a report prints into one table.

An id is dotted, from the measure to what it covers: ``value_at_risk.monte_carlo.0.99.total.all``.
A null value means not available; money is USD, unrounded, with the decimals it is printed at (-4
is USD m with two decimals).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.reports import choose
from risk.reports.exposures import exposure_facts
from risk.reports.fact_groups import Add, book_facts, liquidation_facts, run_facts, stress_facts
from risk.reports.inputs import ReportInputs
from risk.reports.limits import CHANGES, evaluate_limits, first_change, limit_changes
from risk.reports.view import money_decimals
from risk.schema import FACTS

#: Measures by confidence, then measures without; value: unit and decimals (none: money).
BY_CONFIDENCE = (
    "value_at_risk",
    "value_at_risk_low",
    "value_at_risk_high",
    "expected_shortfall",
    "expected_shortfall_low",
    "expected_shortfall_high",
    "deficit_expected_shortfall",
)
PLAIN = {
    "pnl_mean": ("USD", None),
    "deficit_mean": ("USD", None),
    "liquidated_notional_mean": ("USD", None),
    "liquidated_notional_p99": ("USD", None),
    "liquidations_mean": ("1", 1),
    "liquidations_p99": ("1", 0),
    "n_scenarios": ("1", 0),
}

_DECIMALS = {"1": 0, "%": 1, "x": 2, "days": 0}


def collect_facts(inputs: ReportInputs) -> pa.Table:
    """Every number of the reports.

    Parameters
    ----------
    inputs : ReportInputs
        Results of one run.

    Returns
    -------
    Table
        Schema ``FACTS``, one row per number, in a fixed order.
    """
    gross = inputs.margin.long_notional_usd + inputs.margin.short_notional_usd
    money = money_decimals(gross)
    rows: dict[str, tuple[float | None, str, int, str]] = {}

    def add(
        fact_id: str, value: object, unit: str, scope: str, decimals: int | None = None
    ) -> None:
        if decimals is None:
            decimals = money if unit == "USD" else _DECIMALS.get(unit, 2)
        number = None if value is None else float(value)  # type: ignore[arg-type]
        rows[fact_id] = (None if number != number else number, unit, decimals, scope)

    _measure_facts(inputs, add)
    _derived_facts(inputs, add)
    stress_facts(inputs, add)
    liquidation_facts(inputs, add)
    book_facts(inputs, add)
    run_facts(inputs, add)
    for section in inputs.sections:
        for fact in section.facts:
            add(fact.fact_id, fact.value, fact.unit, fact.scope, fact.decimals)
    _share_facts(inputs, add, rows)
    exposure_facts(inputs, add, rows)
    _limit_facts(inputs, add, {fact_id: row[0] for fact_id, row in rows.items()}, rows)
    values, units, decimals, scopes = (list(column) for column in zip(*rows.values(), strict=True))
    # A limit is judged on an infinite use of an empty fund, but no page prints an infinity.
    finite = [choose.finite(value) for value in values]
    arrays = [list(rows), finite, units, decimals, scopes, [inputs.as_of] * len(rows)]
    return pa.table(arrays, schema=FACTS)


def _measure_facts(inputs: ReportInputs, add: Add) -> None:
    for level in choose.levels(inputs):
        node = inputs.measures[level].to_dataset()
        groups = choose.group_names(inputs, level)
        sets = [str(name) for name in node["scenario_set"].values]
        given = [float(value) for value in node["confidence"].values]
        for name in BY_CONFIDENCE:
            values = _array(node, name, ("scenario_set", "confidence", "group"))
            for s, scenario_set in enumerate(sets):
                for c, confidence in enumerate(given):
                    for g, group in enumerate(groups):
                        add(
                            choose.measure_id(name, scenario_set, level, group, confidence),
                            values[s, c, g],
                            "USD",
                            f"{scenario_set}, {level} {group}, confidence {confidence:g}",
                        )
        for name, (unit, decimals) in PLAIN.items():
            values = _array(node, name, ("scenario_set", "group"))
            for s, scenario_set in enumerate(sets):
                for g, group in enumerate(groups):
                    fact_id = choose.measure_id(name, scenario_set, level, group)
                    add(fact_id, values[s, g], unit, f"{scenario_set}, {level} {group}", decimals)


def _array(node: xr.Dataset, name: str, dims: tuple[str, ...]) -> np.ndarray:
    shape = {dim: node.sizes[dim] for dim in dims}
    if name not in node:
        return np.full(tuple(shape.values()), np.nan)
    array = node[name]
    for dim in set(array.dims) - set(dims):
        array = array.isel({dim: 0})
    lacking = {dim: size for dim, size in shape.items() if dim not in array.dims}
    return array.expand_dims(lacking).transpose(*dims).values.astype(float)


def _derived_facts(inputs: ReportInputs, add: Add) -> None:
    top = choose.headline(inputs)
    total = inputs.measures["total"].to_dataset()
    for scenario_set in choose.scenario_sets(inputs):
        at = total.sel(scenario_set=scenario_set).isel(group=0)
        tail = at.sel(confidence=top.value_at_risk)
        var, shortfall = _scalar(tail, "value_at_risk"), _scalar(tail, "expected_shortfall")
        ratio = shortfall / var if var and shortfall is not None and var > 0 else None
        add(f"tail_ratio.{scenario_set}", ratio, "x", "mean loss beyond the VaR over the VaR")
        if scenario_set in inputs.totals:
            worst = choose.worst_scenarios(inputs.totals[scenario_set])
            for rank, one in enumerate(worst, 1):
                key, scope = f"worst.{scenario_set}.{rank}", f"{scenario_set}, {one.label}"
                add(key, one.pnl, "USD", scope)
                add(f"{key}.weight", 100.0 * one.weight, "%", f"{scope}: its weight", 3)
    at = total.sel(scenario_set=top.scenario_set, confidence=top.expected_shortfall)
    loss = _scalar(at.isel(group=0), "expected_shortfall")
    deficit = _scalar(at.isel(group=0), "deficit_expected_shortfall")
    share = 100.0 * deficit / loss if loss and deficit is not None and loss > 0 else None
    add("two_sides.deficit_share", share, "%", "deficit ES over the holders' ES", 2)


def _scalar(dataset: xr.Dataset, name: str) -> float | None:
    return choose.finite(dataset[name].item()) if name in dataset else None


def _share_facts(
    inputs: ReportInputs, add: Add, rows: dict[str, tuple[float | None, str, int, str]]
) -> None:
    top = choose.headline(inputs)
    group = choose.group_names(inputs, "total")[0]
    equity = inputs.margin.equity_usd
    wanted = {
        name: choose.measure_id(name, top.scenario_set, "total", group, level)
        for name, level in (
            ("value_at_risk", top.value_at_risk),
            ("expected_shortfall", top.expected_shortfall),
        )
    }
    for name, fact_id in (*wanted.items(), ("stress.worst_loss", "stress.worst_loss")):
        value = rows[fact_id][0]
        share = 100.0 * value / equity if value is not None and equity > 0 else None
        add(f"share_of_collateral.{name}", share, "%", f"{fact_id} over the holders' equity")


def _limit_facts(
    inputs: ReportInputs,
    add: Add,
    values: dict[str, float | None],
    rows: dict[str, tuple[float | None, str, int, str]],
) -> None:
    states = evaluate_limits(inputs.limits, values)
    changes = limit_changes(inputs, values, states)
    for rank, state in enumerate(states, 1):
        limit = state.limit
        _, unit, decimals, _ = rows.get(state.fact_id, (None, "1", 2, ""))
        scope = f"limit {limit.name}"
        add(f"limit.{rank}.used", state.value, unit, scope, decimals)
        add(f"limit.{rank}.warning", limit.warning, unit, scope, decimals)
        add(f"limit.{rank}.breach", limit.breach, unit, scope, decimals)
        above = limit.side == "above"
        part, whole = (state.value, limit.breach) if above else (limit.breach, state.value)
        use = 100.0 * part / whole if part is not None and whole else None
        add(f"limit.{rank}.utilisation", use, "%", scope, 0)
        for name in ("n_groups", "n_breach", "n_warning") if limit.level else ():
            add(f"limit.{rank}.{name}", getattr(state, name), "1", f"{scope}, {limit.where}")
        if inputs.previous is not None:
            before = inputs.previous.values.get(state.fact_id)
            add(f"limit.{rank}.before", before, unit, f"{scope}, night before", decimals)
    if inputs.previous is not None:
        for word in CHANGES:
            count = sum(first_change(found) == word for found in changes)
            add(f"limits.{word}", count, "1", f"limits {word} since the night before")
    for word in ("breach", "warning", "within", "not evaluated"):
        count = sum(state.state == word for state in states)
        add(f"limits.{word.replace(' ', '_')}", count, "1", f"limits {word}")
    add("limits.all", len(states), "1", "limits in the inventory")
