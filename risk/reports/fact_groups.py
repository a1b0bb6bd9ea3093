"""The facts of the stresses, the liquidations, the book and the run, one function each."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from risk.reports import choose
from risk.reports.inputs import ReportInputs
from risk.reports.view import slug

_STRESS_MONEY = ("pnl", "deficit", "venue_gain", "market_cost", "liquidated_notional")
_STRESS_COUNTS = ("liquidations", "stops")


class Add(Protocol):
    """Adds one fact to the table under construction."""

    def __call__(
        self, fact_id: str, value: object, unit: str, scope: str, decimals: int | None = None
    ) -> None:
        """Add it; the decimals follow from the unit unless given."""


def stress_facts(inputs: ReportInputs, add: Add) -> None:
    """Stress by stress, the worst of them, and the insurance funds beside them."""
    stresses = inputs.stresses
    n = stresses.sizes["scenario"]
    money = {name: np.asarray(stresses[name].values, float) for name in _STRESS_MONEY}
    venues, by_venue, funds = choose.deficit_beside_fund(inputs)
    uncovered = np.maximum(by_venue - funds, 0.0).sum(axis=1) if venues else np.zeros(n)
    use = _fund_use(by_venue, funds)
    # Holders' P&L, what the venue took and paid and what closing cost: together the price move.
    net = money["venue_gain"] - money["deficit"]
    move = money["pnl"] + net + money["market_cost"]
    for index in range(n):
        title = choose.stress_label(inputs, index)
        name = slug(title)
        for variable in _STRESS_MONEY:
            add(f"stress.{variable}.{name}", money[variable][index], "USD", f"stress {title}")
        for variable in _STRESS_COUNTS:
            add(f"stress.{variable}.{name}", stresses[variable].values[index], "1", title)
        add(f"stress.venue_net.{name}", net[index], "USD", f"stress {title}")
        add(f"stress.price_move.{name}", move[index], "USD", f"stress {title}")
        add(f"stress.uncovered.{name}", uncovered[index], "USD", f"stress {title}")
        add(f"stress.fund_use.{name}", use[index], "%", f"worst venue, stress {title}")
    add("stress.count", n, "1", "stresses in the run")
    add("stress.worst_loss", -money["pnl"].min() if n else None, "USD", "all stresses")
    add("stress.worst_deficit", money["deficit"].max() if n else None, "USD", "all stresses")
    add("stress.worst_uncovered", uncovered.max() if n else None, "USD", "all stresses")
    add("stress.worst_fund_use", use.max() if n else None, "%", "worst venue and stress")
    balances = choose.fund_balances(inputs)
    add("fund.total", math.fsum(balances.values()), "USD", "insurance funds, all venues")
    worst = money["deficit"].max() if n else None
    total = math.fsum(balances.values())
    add("fund.cover", total / worst if worst else None, "x", "all funds over the worst deficit")
    for venue in choose.venues(inputs):
        column = by_venue[:, venues.index(venue)] if venue in venues and n else np.zeros(0)
        deficit = column.max() if column.size else None
        balance = balances.get(venue, 0.0)
        name = slug(venue)
        known = None if venue in choose.funds_without_price(inputs) else balance
        add(f"fund.balance.{name}", known, "USD", f"insurance fund of {venue}")
        add(f"fund.deficit.{name}", deficit, "USD", f"worst stress deficit at {venue}")
        share = None if deficit is None else _share(deficit, balance)
        add(f"fund.use.{name}", share, "%", f"worst stress deficit over the fund of {venue}")
        beyond = None if deficit is None else max(deficit - balance, 0.0)
        add(f"fund.uncovered.{name}", beyond, "USD", f"worst stress deficit beyond it at {venue}")


def liquidation_facts(inputs: ReportInputs, add: Add) -> None:
    """The liquidation curve, the distances to liquidation and the jump sensitivity."""
    curves = inputs.curves
    assets = [str(name) for name in curves["asset"].values]
    notional = curves["liquidated_notional"].transpose("asset", "move").values
    counts = curves["liquidations"].transpose("asset", "move").values
    for point in choose.curve_moves(inputs):
        move = float(curves["move"].values[point])
        key = f"{move:g}"
        add(f"curve.move.{key}", 100.0 * move, "%", "own-price move", 0)
        add(f"curve.notional.all.{key}", notional[:, point].sum(), "USD", f"all assets, {key}")
        add(f"curve.liquidations.all.{key}", counts[:, point].sum(), "1", f"all assets, {key}")
        for asset in choose.curve_assets(inputs, choose.N_CURVE_ROWS):
            row = assets.index(asset)
            add(f"curve.notional.{slug(asset)}.{key}", notional[row, point], "USD", asset)
    margin, distance = inputs.margin, inputs.margin.distance
    total = margin.long_notional_usd + margin.short_notional_usd
    sides = [str(side) for side in distance["side"].values]
    by_side = distance["notional_usd"].transpose("bin", "side").values
    positions = distance["n_positions"].transpose("bin", "side").values
    for k in range(distance.sizes["bin"]):
        for edge in ("lower", "upper"):
            value = 100.0 * distance[edge].values[k]
            add(f"distance.{k}.{edge}", value, "%", "distance to liquidation", 0)
        for s, side in enumerate(sides):
            add(f"distance.{k}.{slug(side)}", by_side[k, s], "USD", f"{side}, distance bin {k}")
        add(f"distance.{k}.n_positions", positions[k].sum(), "1", f"distance bin {k}")
        add(f"distance.{k}.share", _share(by_side[k].sum(), total), "%", f"distance bin {k}")
    near = choose.near_bin(inputs)
    edge_value = 100.0 * distance["upper"].values[near - 1] if near else None
    add("margin.near_distance", edge_value, "%", "edge of the near bins", 0)
    add("margin.share.near", _share(by_side[:near].sum(), total), "%", "notional near its trigger")
    if inputs.gap_sensitivity is not None:
        gaps = inputs.gap_sensitivity
        if "confidence" in gaps.attrs:
            add("gap.confidence", 100.0 * gaps.attrs["confidence"], "%", "of the deficit's ES", 0)
        for k, gap in enumerate(gaps["gap"].values):
            add(f"gap.{k}.share", 100.0 * float(gap), "%", "share of the move in one jump", 0)
            for name in gaps.data_vars:
                value, scope = float(gaps[name].values[k]), f"{name}, jump share {gap:g}"
                if gaps[name].attrs.get("units") == "1":
                    add(f"gap.{k}.{name}", 100.0 * value, "%", scope, 1)
                else:
                    add(f"gap.{k}.{name}", value, "USD", scope)


def book_facts(inputs: ReportInputs, add: Add) -> None:
    """The book at the mark, who makes the tail, coverage and reasons."""
    margin = inputs.margin
    gross = margin.long_notional_usd + margin.short_notional_usd
    add("margin.gross_notional", gross, "USD", "priced positions, long plus short")
    add("margin.long_notional", margin.long_notional_usd, "USD", "priced long positions")
    add("margin.short_notional", margin.short_notional_usd, "USD", "priced short positions")
    add("margin.equity", margin.equity_usd, "USD", "equity of the priced positions")
    leverage = gross / margin.equity_usd if margin.equity_usd > 0 else None
    add("margin.leverage", leverage, "x", "gross notional over equity")
    add("margin.n_priced", margin.n_priced, "1", "priced positions")
    add("margin.n_accounts", margin.n_accounts, "1", "accounts with a priced position")
    add("margin.n_margin_calls", margin.n_margin_calls, "1", "equity below initial margin")
    add("margin.n_liquidatable", margin.n_liquidatable, "1", "at or past the trigger at the mark")
    calls = _share(margin.n_margin_calls, margin.n_priced)
    add("margin.share.margin_calls", calls, "%", "priced positions with a margin call")
    for name, rows in choose.contributions(inputs).items():
        total = math.fsum(amount for _, amount in rows)
        kept, rest = rows[: choose.N_CONTRIBUTORS], rows[choose.N_CONTRIBUTORS :]
        for group, amount in kept:
            fact_id = f"contribution.{slug(name)}.{slug(group)}"
            add(fact_id, amount, "USD", f"{name} {group}, part of the expected shortfall")
            add(f"{fact_id}.share", _share(amount, total), "%", f"{name} {group}")
        others = math.fsum(amount for _, amount in rest)
        add(f"contributions.{slug(name)}.others", others, "USD", f"all other of {name}")
        add(f"contributions.{slug(name)}.others.share", _share(others, total), "%", name)
        add(f"contributions.{slug(name)}.n_others", len(rest), "1", f"groups of {name} not shown")
        add(f"contributions.{slug(name)}.total", total, "USD", f"all of {name}")
        add(f"contributions.{slug(name)}.total.share", _share(total, total), "%", name)
    for rank, row in enumerate(inputs.accounts.to_pylist()[: choose.N_ACCOUNTS], 1):
        scope = f"account {row['account']} under {row['scenario']}"
        for column in ("pnl_usd", "deficit_usd", "notional_usd"):
            add(f"account.{rank}.{column.removesuffix('_usd')}", row[column], "USD", scope)
    for row in inputs.coverage.to_pylist():
        status = row["status"]
        add(f"coverage.n_positions.{status}", row["n_positions"], "1", status)
        add(f"coverage.notional.{status}", row["notional_usd"], "USD", status)
        add(f"coverage.share.{status}", _percent(row["share"]), "%", status, 2)
        add(f"coverage.notional_share.{status}", _percent(row["notional_share"]), "%", status, 2)
    for rank, one in enumerate(inputs.reconciled, 1):
        add(f"reconciled.{rank}.left", one.left, one.unit, f"{one.name}, {one.left_words}")
        add(f"reconciled.{rank}.right", one.right, one.unit, f"{one.name}, {one.right_words}")
        add(f"reconciled.{rank}.difference", one.left - one.right, one.unit, one.name)
    lost = sum(not one.is_equal for one in inputs.reconciled)
    add("reconciled.failed", lost, "1", "totals that do not add up")
    add("reconciled.all", len(inputs.reconciled), "1", "totals that were added up twice")
    for row in inputs.methods.to_pylist() if inputs.methods is not None else ():
        method, scope = row["method"], f"priced by {row['method']}"
        add(f"method.n_positions.{method}", row["n_positions"], "1", scope)
        add(f"method.notional.{method}", row["notional_usd"], "USD", scope)
        add(f"method.share.{method}", _percent(row["share"]), "%", scope, 2)
        add(f"method.notional_share.{method}", _percent(row["notional_share"]), "%", scope, 2)
    add("coverage.floor", 100.0 * inputs.coverage_floor, "%", "least share to be priced")
    for rank, row in enumerate(inputs.reasons.to_pylist()[: choose.N_REASONS], 1):
        add(f"reason.{rank}.n_positions", row["n_positions"], "1", row["reason"])
        add(f"reason.{rank}.notional", row["notional_usd"], "USD", row["reason"])


def run_facts(inputs: ReportInputs, add: Add) -> None:
    """Settings, input sizes, quality checks and the lines of the capital summary."""
    for confidence in sorted({*choose.confidences(inputs), 0.999}):
        percent = 100.0 * confidence
        decimals = len(f"{percent:.6f}".rstrip("0").split(".")[1])
        add(f"parameter.confidence.{confidence:g}", percent, "%", "confidence", decimals)
    for name, value in inputs.parameters.items():
        decimals = len(f"{float(value):.4f}".rstrip("0").split(".")[1])
        unit = "days" if name == "horizon_days" else "1"
        add(f"parameter.{slug(name)}", value, unit, "setting", decimals)
    for rank, file in enumerate(inputs.run.files, 1):
        add(f"input.{rank}.rows", file.n_rows, "1", f"rows of {file.name}")
    for level in choose.levels(inputs):
        n_groups = len(choose.group_names(inputs, level))
        add(f"count.groups.{level}", n_groups, "1", f"groups of level {level}")
    for rank, check in enumerate(inputs.quality, 1):
        add(f"quality.{rank}.value", check.value, check.unit, check.name)
    for state in ("pass", "warn", "fail"):
        count = sum(check.state == state for check in inputs.quality)
        add(f"quality.{state}", count, "1", f"quality checks: {state}")
    if inputs.adequacy is not None:
        for row in inputs.adequacy.to_pylist():
            add(f"capital.{row['line']}", row["value"], row["unit"], row["basis"])
    if inputs.capital is not None:
        for row in inputs.capital.to_pylist():
            scope = f"{row['section_title']}: {row['title']}"
            add(choose.capital_id(row), row["value"], row["unit"], scope)


def _fund_use(by_venue: np.ndarray, funds: np.ndarray) -> np.ndarray:
    """Deficit over the venue's own fund in percent, at the worst venue; infinite without a fund."""
    if not by_venue.size:
        return np.zeros(by_venue.shape[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        use = np.where(by_venue > 0.0, 100.0 * by_venue / funds, 0.0)
    return use.max(axis=1)


def _share(part: float, whole: float) -> float | None:
    return 100.0 * float(part) / float(whole) if whole else None


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100.0 * fraction
