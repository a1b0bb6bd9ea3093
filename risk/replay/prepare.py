"""What the nights of a backtest share, checked and written once: plan, prices, book, ladders."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.config import Config
from risk.coverage import coverage, gross_notional, mark_unpriced
from risk.errors import ConfigError, DataError
from risk.liquidation import build_ladders
from risk.margin.book import build_book
from risk.margin.pooling import held_coins
from risk.market.history import load_history
from risk.replay.forecast import scenario_plan
from risk.replay.shared import write_bars
from risk.schema import LABELS
from risk.snapshot import load_snapshot

#: Share of the next day's excursion that lands as one jump where the config names none: about
#: what the worst five minutes of 2024-08-05 made of that day's fall (docs/methods/historical.md).
DEFAULT_GAP = 0.3

#: Forecasts are one day ahead whatever the config's horizon: days must not overlap.
HORIZON_DAYS = 1

#: Days of history a Monte Carlo calibration needs before the first night.
MIN_CALIBRATION_DAYS = 61

#: Texts of the book that no night reads.
NOT_NEEDED = ["position_id", "account", "reason", "symbol", "book"]


def make_plan(config: Config, first: dt.date, last: dt.date) -> dict[str, Any]:
    """What the nights need of the config, as JSON values.

    Raises
    ------
    ConfigError
        If the period is empty or the config names no set to forecast with.
    """
    if first > last:
        raise ConfigError(f"the backtest runs from {first} to {last}; give the earlier night first")
    plan = scenario_plan(config, HORIZON_DAYS)
    if not plan["sets"]:
        raise ConfigError(
            "a backtest needs scenarios.historical or scenarios.monte_carlo; stresses have no "
            "probabilities"
        )
    return plan | {
        "first": str(first),
        "last": str(last),
        "confidence": list(config.measures.confidence),
        "gap": plan["historical"]["gap"] if plan["historical"] else DEFAULT_GAP,
    }


def prepare(
    folder: Path, config: Config, plan: dict[str, Any], where: Path, marks: Path | None
) -> None:
    """Write what the nights share: plan, prices, book and ladders.

    Raises
    ------
    ConfigError
        If the history does not cover the period.
    DataError
        If no position can be priced.
    """
    history = _covering(config.history, plan)
    snapshot = load_snapshot(where, venue_folders=[config.venues])
    book = build_book(
        snapshot.positions,
        snapshot.contracts,
        snapshot.tiers,
        snapshot.venues,
        as_of=snapshot.as_of,
        accounts=snapshot.accounts,
    )
    gross = gross_notional(snapshot.positions, snapshot.contracts)
    known = {str(name) for name in history["asset"].values}
    book = mark_unpriced(book, known).append_column("gross_notional_usd", gross)
    priced = book.filter(pc.equal(book["status"], "ok"))
    held = priced.select(["asset", "notional_usd"]).group_by("asset", use_threads=False).aggregate(
        [("notional_usd", "sum")]
    )  # fmt: skip
    # A coin that only backs a pool has no notional, but its price moves the pool.
    notional = dict.fromkeys(sorted(held_coins(priced)), 0.0) | dict(
        zip(held["asset"].to_pylist(), held["notional_usd_sum"].to_pylist(), strict=True)
    )
    assets = sorted(notional)
    if not assets:
        raise DataError(f"{where}: no position of the book can be priced; nothing to backtest")
    labels = [name for name in LABELS if name in {*config.cells, "asset"}]
    build_ladders(book, assets, labels, config.max_cells).save(folder / "ladders")
    # What the nights close positions by; taking rows of text every night would cost more.
    # Pools are told apart by their accounts.
    needed = {"account"} if priced["pool_holdings"].null_count < priced.num_rows else set()
    dropped = [name for name in NOT_NEEDED if name not in needed]
    pq.write_table(priced.drop_columns(dropped), folder / "book.parquet")
    covered = coverage(book, snapshot.quarantine, snapshot.n_rows, [])
    pq.write_table(covered, folder / "coverage.parquet")
    write_bars(folder / "history.npz", history)
    counted = history
    if marks is not None:
        day = _after(plan)
        bars = load_history(marks, day, wick_filter=False)
        # A day that lacks hours may hide the one that liquidates.
        whole = ~bars["incomplete"]
        counted = bars.assign({name: bars[name].where(whole) for name in ("low", "high", "close")})
    write_bars(folder / "marks.npz", counted)
    notes = {
        "snapshot": {
            "n_rows": snapshot.n_rows,
            "is_synthetic": snapshot.is_synthetic,
            "notes": list(snapshot.notes),
        },
        "market": {"is_synthetic": bool(history.attrs["is_synthetic"])},
    }
    for name, note in notes.items():
        text = json.dumps(note, indent=1, sort_keys=True)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    plan = plan | {"notional_usd": notional}
    (folder / "plan.json").write_text(json.dumps(plan, sort_keys=True), encoding="utf-8")


def _after(plan: dict[str, Any]) -> dt.date:
    return dt.date.fromisoformat(plan["last"]) + dt.timedelta(days=1)


def _covering(path: Path, plan: dict[str, Any]) -> xr.Dataset:
    """The history up to the day after the last night, if it begins early enough."""
    first, after = dt.date.fromisoformat(plan["first"]), _after(plan)
    try:
        history = load_history(path, after)
    except ConfigError as error:
        raise ConfigError(
            f"the night of {plan['last']} is judged by the prices of {after}: {error}"
        ) from None
    start = history["day"].values[0].astype("M8[D]").item()
    needed = plan["historical"]["windows"] if plan["historical"] else 0
    if plan["monte_carlo"]:
        needed = max(needed, MIN_CALIBRATION_DAYS)
    if (first - start).days < needed:
        raise ConfigError(
            f"the night of {first} needs {needed} days of history before it, but {path} begins on "
            f"{start}; start the backtest on {start + dt.timedelta(days=needed)} or later, or ask "
            "for fewer windows"
        )
    return history
