"""One night of a backtest, as a worker does it: forecast, then what the next day did.

A pure function of the workspace's files and the night's number. Importable by a bare worker.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.backtest import exceedances
from risk.engine import Block
from risk.liquidation import (
    build_ladders,
    liquidation_probability,
    position_outcomes,
    walk,
)
from risk.market.history import universe
from risk.measures import expected_shortfall, value_at_risk
from risk.replay.attribution import attribution_row, proxied_assets, proxy_moves
from risk.replay.causes import day_causes, in_words, what_is_missing
from risk.replay.forecast import Models, day_drivers, day_ratios, fit_models, forecast_drivers
from risk.replay.shared import Inputs, load_inputs
from risk.replay.tables import ATTRIBUTION, BUCKETS, CAUSES, DAYS, LIQUIDATIONS
from risk.scenarios.moves import Ratios
from risk.store import file_digest

#: Edges of the forecast probabilities a calibration table is cut at.
EDGES = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
N_BUCKETS = len(EDGES) - 1

#: File of each table of a night.
TABLES = {
    "days": DAYS,
    "causes": CAUSES,
    "attribution": ATTRIBUTION,
    "liquidations": LIQUIDATIONS,
    "buckets": BUCKETS,
}

#: Files of the workspace that a night reads.
READS = ("plan.json", "history.npz", "marks.npz", "book.parquet", "ladders/*")

_LIQUIDATED = 2


def run_night(workspace: str, block: Block) -> Mapping[str, str]:
    """Replay one night and write its tables.

    Returns
    -------
    mapping of str to str
        Checksum of every file written.
    """
    inputs = load_inputs(workspace)
    night = dt.date.fromisoformat(inputs.plan["first"]) + dt.timedelta(days=block.start)
    sums = {}
    for name, table in replay_night(inputs, night).items():
        path = night_file(Path(workspace), block, name)
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, path)
        sums[name] = file_digest(path)
    return sums


def check_night(workspace: str, block: Block, checksums: Mapping[str, str]) -> bool:
    """Whether an earlier attempt's tables are intact."""
    try:
        return all(
            file_digest(night_file(Path(workspace), block, name)) == checksums[name]
            for name in TABLES
        )
    except (OSError, KeyError):
        return False


def night_file(workspace: Path, block: Block, table: str) -> Path:
    """Where a table of one night lies."""
    return workspace / "nights" / f"{block.key}-{table}.parquet"


def replay_night(inputs: Inputs, night: dt.date) -> dict[str, pa.Table]:
    """Forecast at the close of `night` and compare with the day after.

    Returns
    -------
    dict of str to Table
        The tables of `TABLES`, their rows for this night.
    """
    assets, cells = inputs.assets, inputs.ladders.cells
    past = inputs.history.sel(day=slice(None, np.datetime64(night, "ns")))
    closed = past["close"].isel(day=-1)
    priced = np.isfinite(closed.reindex(asset=assets).values)
    moves = day_ratios(inputs.history, night, assets)
    moves = Ratios(*(np.where(priced, part, np.nan) for part in moves))
    lost = [assets[at] for at in np.flatnonzero(priced & np.isnan(moves.last[0]))]
    is_known = bool(priced.any()) and not lost
    drivers = day_drivers(moves, assets, night, inputs.plan["gap"])
    realised = walk(inputs.ladders, drivers).isel(scenario=0)
    pnl = float(realised.pnl.sum()) if is_known else np.nan
    # A coin that only stands as collateral has a price and no notional.
    by_asset = {name: inputs.plan["notional_usd"].get(name, 0.0) for name in assets}
    notional = np.array(list(by_asset.values()))
    share = float(notional[priced].sum() / notional.sum())

    marked = day_ratios(inputs.marks, night, assets)
    is_counted = _countable(inputs, priced & np.isfinite(marked.last[0]))
    hit = is_counted & _liquidated(inputs, day_drivers(marked, assets, night, None))
    # The same positions on the history's daily bar: what the hours between low and high add.
    is_both = _countable(inputs, priced & np.isfinite(marked.last[0]) & np.isfinite(moves.last[0]))
    daily = is_both & _liquidated(inputs, day_drivers(moves, assets, night, None))
    beside = {
        "realised_daily": int(daily.sum()),
        "only_daily": int((daily & ~hit).sum()),
        "only_marks": int((hit & is_both & ~daily).sum()),
    }

    base = {"night": night, "day": night + dt.timedelta(days=1)}
    causes = day_causes(base, realised, cells, moves, assets) if is_known else []
    cause = in_words(causes) if is_known else what_is_missing(night, lost)
    held = [name for name, flag in zip(assets, priced, strict=True) if flag]
    models = fit_models(past, inputs.plan, universe(past, night), held) if held else None
    sets = dict(_forecasts(inputs, past, models, is_counted)) if models else {}
    days, liquidations, buckets = [], [], []
    for name in inputs.plan["sets"]:
        forecast = sets.get(name)
        for level in inputs.plan["confidence"]:
            var = es = pit = None
            if forecast is not None:
                var = value_at_risk(forecast.pnl, level, weights=forecast.unequal)
                es = expected_shortfall(forecast.pnl, level, weights=forecast.unequal)
                pit = _pit(forecast.pnl, forecast.weight, pnl) if is_known else None
            days.append(
                base
                | {
                    "scenario_set": name,
                    "confidence": level,
                    "value_at_risk_usd": var,
                    "expected_shortfall_usd": es,
                    "pnl_usd": pnl if is_known else None,
                    "pit": pit,
                    "is_exceedance": bool(exceedances([pnl], [np.nan if var is None else var])[0]),
                    "n_scenarios": 0 if forecast is None else len(forecast.pnl),
                    "priced_share": share,
                    "cause": cause,
                }
            )
        row, parts = _counts(base | {"scenario_set": name}, forecast, is_counted, hit)
        row["deficit_usd"] = float(realised.deficit.sum()) if is_known else None
        liquidations.append(row | beside)
        buckets += parts
    attribution = []
    replayed = inputs.plan["historical"]
    if replayed and models and is_known:
        proxied = proxied_assets(past, replayed["windows"], held)
        if proxied:
            theory = proxy_moves(moves, inputs.history, night, assets, proxied, models)
            known = {name: by_asset[name] for name in held}
            attribution.append(
                attribution_row(
                    base, inputs.ladders, realised, theory, proxied, inputs.plan["gap"], known
                )
            )
    rows = {
        "days": days,
        "causes": causes,
        "attribution": attribution,
        "liquidations": liquidations,
        "buckets": buckets,
    }
    return {name: pa.Table.from_pylist(rows[name], schema=kind) for name, kind in TABLES.items()}


@dataclass(frozen=True)
class Forecast:
    """What one scenario set says of the day: columns on (scenario,), counts by bucket beside."""

    weight: np.ndarray
    pnl: np.ndarray
    deficit: np.ndarray
    count: np.ndarray  # (scenario, bucket), of the positions that can be counted
    place: np.ndarray  # (row of the book,) bucket of each of them, -1 of the others
    expected: np.ndarray  # (bucket,) sum of their probabilities

    @property
    def unequal(self) -> np.ndarray | None:
        """The weights, or None where they are equal: ranks are then exact."""
        return None if np.ptp(self.weight) <= 1e-9 / len(self.weight) else self.weight


def _forecasts(
    inputs: Inputs, past: xr.Dataset, models: Models, is_counted: np.ndarray
) -> Iterator[tuple[str, Forecast]]:
    """Every wanted set's forecast."""
    records: dict[str, list[xr.Dataset]] = {}
    for name, drivers in forecast_drivers(past, inputs.plan, inputs.assets, models=models):
        records.setdefault(name, []).append(drivers)
    for name, parts in records.items():
        n = [part.sizes["scenario"] for part in parts]
        chances = [liquidation_probability(inputs.book, part) for part in parts]
        chance = np.average(chances, axis=0, weights=n)
        place = np.clip(np.searchsorted(EDGES, chance, side="right") - 1, 0, N_BUCKETS - 1)
        place[~is_counted] = -1
        # The bucket is the only cell a forecast needs: fewer ladders, the same total.
        names = pa.array([str(bucket) for bucket in range(-1, N_BUCKETS)])
        labels = pa.DictionaryArray.from_arrays(pa.array(place + 1, pa.int32()), names)
        labelled = inputs.book.append_column("bucket", labels)
        ladders = build_ladders(labelled, inputs.assets, ["bucket"], N_BUCKETS + 1)
        cubes = [walk(ladders, part) for part in parts]
        count = np.zeros((sum(n), N_BUCKETS))
        for cell, bucket in enumerate(ladders.cells["bucket"].to_pylist()):
            if int(bucket) >= 0:
                columns = [cube.liquidations.values[:, cell] for cube in cubes]
                count[:, int(bucket)] = np.concatenate(columns)
        weights = [part["weight"].values * k for part, k in zip(parts, n, strict=True)]
        yield (
            name,
            Forecast(
                weight=np.concatenate(weights) / sum(n),
                pnl=np.concatenate([cube.pnl.sum("cell").values for cube in cubes]),
                deficit=np.concatenate([cube.deficit.sum("cell").values for cube in cubes]),
                count=count,
                place=place,
                expected=np.bincount(place[is_counted], chance[is_counted], N_BUCKETS),
            ),
        )


def _counts(
    base: Mapping[str, Any], forecast: Forecast | None, is_counted: np.ndarray, hit: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The night's row of LIQUIDATIONS and its rows of BUCKETS; `hit` is what was liquidated."""
    row = dict(base) | {"n_positions": int(is_counted.sum()), "realised": int(hit.sum())}
    if forecast is None:
        return row, []
    total = forecast.count.sum(axis=1)
    row |= {
        "expected": float(forecast.expected.sum()),
        "variance": float(_variance(total[:, None], forecast.weight)[0]),
        "forecast_p99": float(value_at_risk(-total, 0.99, weights=forecast.unequal)),
        "expected_deficit_usd": float(forecast.weight @ forecast.deficit),
    }
    n = np.bincount(forecast.place[is_counted], minlength=N_BUCKETS)
    found = np.bincount(forecast.place[hit], minlength=N_BUCKETS)
    variance = _variance(forecast.count, forecast.weight)
    return row, [
        {
            "night": base["night"],
            "scenario_set": base["scenario_set"],
            "lower": EDGES[k],
            "upper": EDGES[k + 1],
            "n_position_days": int(n[k]),
            "expected": float(forecast.expected[k]),
            "variance": float(variance[k]),
            "realised": int(found[k]),
        }
        for k in np.flatnonzero(n)
    ]


def _countable(inputs: Inputs, assets: np.ndarray) -> np.ndarray:
    """Priced positions of the flagged assets (row of the book,)."""
    names = [name for name, flag in zip(inputs.assets, assets, strict=True) if flag]
    mine = pc.is_in(inputs.book["asset"].cast(pa.string()), pa.array(names, pa.string()))
    ok = pc.equal(inputs.book["status"], "ok")
    return pc.and_(mine, ok).to_numpy(zero_copy_only=False)


def _liquidated(inputs: Inputs, day: xr.Dataset) -> np.ndarray:
    """Positions the day's prices liquidate (row of the book,)."""
    outcome = position_outcomes(inputs.book, day)
    hit = np.zeros(inputs.book.num_rows, bool)
    hit[outcome.row.values] = outcome.outcome.values[0] == _LIQUIDATED
    return hit


def _variance(count: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Variance of each column over the weighted scenarios."""
    return weight @ (count - weight @ count) ** 2


def _pit(forecast: np.ndarray, weight: np.ndarray, pnl: float) -> float:
    """Forecast probability of a P&L at most this one, by its rank among the scenarios.

    If the day is one more draw like the scenarios, its rank among the n + 1 is equally likely to
    be any; the middle of the rank's interval is its probability.

    Examples
    --------
    >>> third = np.full(3, 1 / 3)
    >>> [_pit(np.array([-1.0, 0.0, 1.0]), third, pnl) for pnl in (-2.0, 0.5)]
    [0.125, 0.625]
    """
    n = len(forecast)
    below, equal = weight[forecast < pnl].sum(), weight[forecast == pnl].sum()
    return float((n * (below + 0.5 * equal) + 0.5) / (n + 1))
