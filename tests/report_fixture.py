"""A made-up night, consistent in itself, for the tests of the reports.

P&L comes from a small simulation per cell; every roll-up, measure, contribution and stress is
computed from it here, plainly and without the code under test.
"""

from __future__ import annotations

import dataclasses
import math
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.capital import adequacy, load_capital
from risk.reports import (
    InputFile,
    MarginSummary,
    QualityCheck,
    ReportInputs,
    RunIdentity,
    load_limits,
)
from risk.reports.exposures import EXPOSURES
from risk.schema import COVERAGE

ROOT = Path(__file__).parents[1]
AS_OF = date(2025, 6, 29)
ASSETS = {"BTC": 5.2e8, "ETH": 3.1e8, "SOL": 1.2e8, "XRP": 7e7, "DOGE": 4.4e7, "BNB": 3.5e7}
ASSETS |= {f"ALT{k:02d}": 1.5e7 / (1 + 0.35 * k) for k in range(16)}
VENUES = {"binance": 0.5, "bybit": 0.3, "okx": 0.2}
FUNDS = {"binance": 18e6, "bybit": 5.2e6, "okx": 1.4e6}
SIDES = {"long": 0.86, "short": 0.14}
CONFIDENCES = (0.95, 0.975, 0.99)
STRESSES = {
    "All crypto -50 %": (-0.5, "hypothetical, uniform fall"),
    "Black Thursday": (-0.44, "daily bars of 2020-03-12"),
    "China ban": (-0.31, "daily bars of 2021-05-19"),
    "Short squeeze +40 %": (0.4, "hypothetical, uniform rise"),
    "FTX collapse": (-0.24, "daily bars of 2022-11-08"),
    "Yen unwind": (-0.17, "daily bars of 2024-08-05"),
}


def _cells() -> list[tuple[str, str, str, float]]:
    return [
        (asset, venue, side, size * share * lean)
        for asset, size in ASSETS.items()
        for venue, share in VENUES.items()
        for side, lean in SIDES.items()
    ]


def _outcome(moves: np.ndarray, size: float, side: str) -> dict[str, np.ndarray]:
    """Loss capped at a tenth of the notional on average, and a deficit from the far tail."""
    move = moves if side == "long" else -moves
    adverse = np.maximum(-move, 0.0)
    hit = 1.0 - np.exp(-((adverse / 0.16) ** 2))
    pnl = size * (np.maximum(move, 0.0) - 0.22 * (1 - np.exp(-adverse / 0.16)))
    deficit = size * 0.04 * np.maximum(adverse - 0.18, 0.0)
    return {
        "pnl": pnl,
        "deficit": deficit,
        "venue_gain": size * 0.006 * hit,
        "market_cost": size * 0.0005 * hit,
        "liquidations": np.round(size / 4.0e4 * hit),
        "stops": np.round(size / 5.0e5 * hit),
        "liquidated_notional": size * hit,
    }


def _moves(n: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    market = 0.025 * generator.standard_t(3.5, n)
    return {
        asset: np.clip((1 + 0.02 * k) * market + 0.016 * generator.standard_t(4, n), -0.8, 1.5)
        for k, asset in enumerate(ASSETS)
    }


def _shortfall(losses: np.ndarray, confidence: float) -> float:
    ordered = np.sort(losses)
    n = ordered.size
    rank = math.ceil(n * confidence - 1e-9)
    whole = ordered[rank:].sum() + (rank - n * confidence) * ordered[rank - 1]
    return whole / (n * (1 - confidence))


def _measure(values: dict[str, np.ndarray], confidence: float) -> dict[str, float]:
    losses = np.sort(-values["pnl"])
    n = losses.size
    rank = math.ceil(n * confidence - 1e-9)
    half = 1.96 * math.sqrt(n * confidence * (1 - confidence))
    low, high = math.floor(rank - half), math.ceil(rank + half)
    shortfall = _shortfall(losses, confidence)
    error = 1.96 * losses[rank - 1 :].std() / math.sqrt(n * (1 - confidence))
    return {
        "value_at_risk": losses[rank - 1],
        "value_at_risk_low": losses[low - 1],
        "value_at_risk_high": losses[high - 1] if high <= n else math.nan,
        "expected_shortfall": shortfall,
        "expected_shortfall_low": shortfall - error,
        "expected_shortfall_high": shortfall + error,
        "deficit_expected_shortfall": _shortfall(values["deficit"], confidence),
    }


def _plain(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        "pnl_mean": values["pnl"].mean(),
        "deficit_mean": values["deficit"].mean(),
        "liquidations_mean": values["liquidations"].mean(),
        "liquidations_p99": float(np.sort(values["liquidations"])[-len(values["pnl"]) // 100]),
        "liquidated_notional_mean": values["liquidated_notional"].mean(),
        "liquidated_notional_p99": float(np.quantile(values["liquidated_notional"], 0.99)),
        "n_scenarios": float(values["pnl"].size),
    }


def _sum(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def _node(groups: dict[str, dict[str, dict[str, np.ndarray]]]) -> xr.Dataset:
    """Measures of {group: {scenario set: vectors}}."""
    names = list(groups)
    sets = ["monte_carlo", "historical"]
    variables: dict[str, Any] = {}
    first = _measure(groups[names[0]][sets[0]], 0.99) if names else {}
    for name in first:
        variables[name] = (
            ("scenario_set", "confidence", "group"),
            [[[_measure(groups[g][s], c)[name] for g in names] for c in CONFIDENCES] for s in sets],
        )
    for name in _plain(groups[names[0]][sets[0]]) if names else ():
        variables[name] = (
            ("scenario_set", "group"),
            [[_plain(groups[g][s])[name] for g in names] for s in sets],
        )
    coords = {"scenario_set": sets, "confidence": list(CONFIDENCES), "group": names}
    return xr.Dataset(variables, coords=coords)


def make_inputs(**changes: Any) -> ReportInputs:
    """The night, with any field replaced."""
    cells = _cells()
    draws = {"monte_carlo": _moves(4000, 7), "historical": _moves(730, 11)}
    results = [
        {name: _outcome(moves[asset], size, side) for name, moves in draws.items()}
        for asset, _, side, size in cells
    ]
    tree = {}
    contributions: list[tuple[str, str, float]] = []
    total = {name: _sum([result[name] for result in results]) for name in draws}
    tail = np.argsort(total["monte_carlo"]["pnl"])[:100]
    for level, place in (("total", None), ("venue", 1), ("asset", 0), ("side", 2)):
        members: dict[str, list[int]] = {}
        for index, cell in enumerate(cells):
            members.setdefault("all" if place is None else str(cell[place]), []).append(index)
        groups = {
            group: {name: _sum([results[index][name] for index in rows]) for name in draws}
            for group, rows in members.items()
        }
        tree[f"/{level}"] = _node(groups)
        if place is not None:
            contributions += [
                (level, group, float(-by_set["monte_carlo"]["pnl"][tail].mean()))
                for group, by_set in groups.items()
            ]
    stresses = _stresses(cells)
    accounts = _account_deficits(stresses)
    funds = pa.table(
        {"venue": list(FUNDS), "currency": ["USDT"] * 3, "balance_usd": list(FUNDS.values())}
    )
    settings = load_capital(ROOT / "configs" / "capital", AS_OF)
    inputs = ReportInputs(
        as_of=AS_OF,
        run=_identity(),
        measures=xr.DataTree.from_dict(tree),
        totals={name: _total(name, values["pnl"]) for name, values in total.items()},
        stresses=stresses,
        coverage=_coverage(),
        coverage_floor=0.99,
        reasons=pa.table(
            {
                "status": ["quarantined", "quarantined", "unpriced", "unpriced", "liquidatable"],
                "reason": [
                    "contracts is not above zero",
                    "no contract for this symbol",
                    "options are not built yet",
                    "no tier for this symbol",
                    "equity at or below its trigger at the mark",
                ],
                "n_positions": [4, 7, 31, 12, 46],
                "notional_usd": [None, None, 1.1e6, 4.0e5, 1.9e6],
            }
        ),
        margin=_margin(cells),
        curves=_curves(),
        contributors=pa.table(
            {
                "label": [row[0] for row in contributions],
                "group": [row[1] for row in contributions],
                "expected_shortfall_contribution": [row[2] for row in contributions],
            }
        ),
        accounts=_top_accounts(),
        funds=funds,
        adequacy=adequacy(
            funds=funds,
            settings=settings,
            deficit_by_venue=stresses["deficit_by_venue"],
            account_deficits=accounts,
            deficit_expected_shortfall=_shortfall(total["monte_carlo"]["deficit"], 0.999),
            deficit_basis="Monte Carlo, mean of the worst scenarios, coherent fractional tail",
        ),
        entity=settings.entity,
        limits=load_limits(ROOT / "configs" / "limits.yaml"),
        parameters={"horizon_days": 1, "steps_per_path": 24, "gap_share_historical": 0.3},
        quality=(
            QualityCheck("Price kind", "warn", "last prices: wicks are clipped by a stated rule"),
            QualityCheck("Stale marks", "warn", "mark older than the limit", 212),
            QualityCheck("Proxied history", "warn", "young assets follow beta times market", 3),
            QualityCheck("Duplicate position ids", "pass", "none"),
            QualityCheck("Tier recursion", "pass", "maintenance is continuous in every table"),
        ),
        exposures=_exposures(cells),
        gap_sensitivity=xr.Dataset(
            {
                "worst_stress_deficit": (
                    "gap",
                    [2.0e6, 6.1e6, 1.35e7],
                    {"long_name": "Worst stress"},
                ),
                "historical_deficit": ("gap", [3e5, 9e5, 2.4e6], {"long_name": "Historical ES"}),
            },
            coords={"gap": [0.1, 0.3, 0.6]},
        ),
    )
    return dataclasses.replace(inputs, **changes)


def _exposures(cells: list[tuple[str, str, str, float]]) -> pa.Table:
    """Cells summed by level, a quarter of the notional being equity, and two made-up accounts."""
    members = {"total": lambda _: "all", "venue": lambda c: c[1], "asset": lambda c: c[0]}
    members["account"] = lambda c: "acct-1" if c[2] == "long" else "acct-2"
    whole = math.fsum(cell[3] for cell in cells)
    rows = []
    for level, group_of in members.items():
        held: dict[str, float] = {}
        net: dict[str, float] = {}
        for cell in cells:
            group = group_of(cell)
            held[group] = held.get(group, 0.0) + cell[3]
            net[group] = net.get(group, 0.0) + cell[3] * (1 if cell[2] == "long" else -1)
        spread = math.fsum((amount / whole) ** 2 for amount in held.values())
        rows += [
            {
                "level": level,
                "group": group,
                "n_groups": len(held),
                "herfindahl": spread,
                "n_positions": 10,
                "notional_usd": amount,
                "equity_usd": 0.25 * amount,
                "market_exposure_usd": net[group],
                "correlated_loss_usd": 0.03 * abs(net[group]),
            }
            for group, amount in held.items()
        ]
    return pa.Table.from_pylist(rows, schema=EXPOSURES)


def _identity() -> RunIdentity:
    return RunIdentity(
        run_id="4f0c9a61d2e7",
        config_digest="b9e5" * 16,
        code_version="0.1.0",
        seed=20250629,
        scenario_sets={
            "monte_carlo": "correlated Student t, volatility of the last days, bridge extremes",
            "historical": "overlapping one-day windows with intraday low and high",
            "stress": "named days and designed moves",
        },
        files=tuple(
            InputFile(name, f"{k:x}" * 64, rows)
            for k, (name, rows) in enumerate(
                {
                    "snapshot/positions.parquet": 20000,
                    "snapshot/contracts.parquet": 66,
                    "snapshot/tiers.parquet": 410,
                    "history/prices.parquet": 61320,
                    "venues/binance.yaml": None,
                }.items(),
                1,
            )
        ),
        price_kind="last",
        tier_sources=("binance: table of 2024-10-24", "okx inverse: synthetic"),
        estimators={
            "value_at_risk": "order statistic, rank rounded up",
            "expected_shortfall": "coherent, fractional tail",
            "interval": "order statistics for VaR, asymptotic for ES",
        },
        is_synthetic=True,
        notes=("Cascade is off: liquidations do not move prices.",),
    )


def _total(name: str, pnl: np.ndarray) -> xr.DataArray:
    days = [str(AS_OF - timedelta(days=pnl.size - k)) for k in range(pnl.size)]
    paths = [f"path {k}" for k in range(pnl.size)]
    labels = days if name == "historical" else paths
    return xr.DataArray(pnl, dims="scenario", coords={"label": ("scenario", labels)})


def _stresses(cells: list[tuple[str, str, str, float]]) -> xr.Dataset:
    names = list(STRESSES)
    moves = {asset: np.array([STRESSES[name][0] for name in names]) for asset in ASSETS}
    parts = [_outcome(moves[asset], size, side) for asset, _, side, size in cells]
    total = _sum(parts)
    by_venue = [
        np.sum(
            [p["deficit"] for p, cell in zip(parts, cells, strict=True) if cell[1] == venue], axis=0
        )
        for venue in VENUES
    ]
    return xr.Dataset(
        {name: ("scenario", values) for name, values in total.items()}
        | {"deficit_by_venue": (("venue", "scenario"), np.array(by_venue))},
        coords={
            "label": ("scenario", names),
            "source": ("scenario", [STRESSES[name][1] for name in names]),
            "venue": list(VENUES),
        },
    )


def _account_deficits(stresses: xr.Dataset) -> pa.Table:
    shares = 0.2 * 0.7 ** np.arange(12)
    rows = [
        {"scenario": str(label), "account": f"A{k:05d}", "deficit_usd": float(share * deficit)}
        for label, deficit in zip(stresses["label"].values, stresses["deficit"].values, strict=True)
        for k, share in enumerate(shares)
    ]
    return pa.Table.from_pylist(rows)


def _top_accounts() -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "account": f"A{k:05d}",
                "scenario": "All crypto -50 %",
                "pnl_usd": -4.2e6 * 0.87**k,
                "deficit_usd": 1.1e6 * 0.8**k,
                "notional_usd": 3.4e7 * 0.9**k,
            }
            for k in range(20)
        ]
    )


def _coverage() -> pa.Table:
    counts = {"in": 20000, "priced": 19900, "unpriced": 43, "liquidatable": 46}
    counts |= {"quarantined": 11, "excluded": 0, "stale": 212, "proxied": 340}
    notional = {"in": 1.24e9, "priced": 1.2366e9, "unpriced": 1.5e6, "liquidatable": 1.9e6}
    notional |= {"excluded": 0.0, "stale": 8.8e6, "proxied": 6.1e6}
    return pa.table(
        {
            "status": list(counts),
            "n_positions": list(counts.values()),
            "notional_usd": [notional.get(status) for status in counts],
            "share": [count / 20000 for count in counts.values()],
            "notional_share": [
                None if status not in notional else notional[status] / 1.24e9 for status in counts
            ],
        },
        schema=COVERAGE,
    )


def _margin(cells: list[tuple[str, str, str, float]]) -> MarginSummary:
    by_side = {side: sum(cell[3] for cell in cells if cell[2] == side) for side in SIDES}
    edges = np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, np.inf])
    weights = np.array([0.03, 0.09, 0.21, 0.19, 0.14, 0.16, 0.11, 0.07])
    notional = np.stack(
        [weights * by_side["long"], weights[[0, 1, 2, 4, 3, 5, 6, 7]] * by_side["short"]]
    )
    distance = xr.Dataset(
        {
            "notional_usd": (("side", "bin"), notional),
            "n_positions": (("side", "bin"), np.round(notional / 6.2e4)),
        },
        coords={
            "side": ["long", "short"],
            "lower": ("bin", edges[:-1]),
            "upper": ("bin", edges[1:]),
        },
    )
    return MarginSummary(
        n_priced=19900,
        n_margin_calls=4113,
        n_liquidatable=46,
        n_accounts=8412,
        long_notional_usd=by_side["long"],
        short_notional_usd=by_side["short"],
        equity_usd=0.23 * sum(by_side.values()),
        distance=distance,
    )


def _curves() -> xr.Dataset:
    moves = np.round(np.arange(-0.6, 0.61, 0.02), 2)
    hit_side = np.where(moves < 0, SIDES["long"], SIDES["short"])
    notional = np.stack(
        [
            size * hit_side * (1 - np.exp(-((moves / (0.15 + 0.01 * k)) ** 2)))
            for k, size in enumerate(ASSETS.values())
        ]
    )
    return xr.Dataset(
        {
            "liquidated_notional": (("asset", "move"), notional),
            "liquidations": (("asset", "move"), np.round(notional / 6.2e4)),
        },
        coords={"asset": list(ASSETS), "move": moves},
    )
