"""A whole backtest: check the period, lay out the nights, fan them out, judge, publish."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.config import Config, config_digest
from risk.coverage import coverage, gross_notional, mark_unpriced
from risk.engine import Block, plan_blocks, run_blocks
from risk.errors import ConfigError, DataError
from risk.liquidation import build_ladders
from risk.margin.book import build_book
from risk.margin.pooling import held_coins
from risk.market.history import load_history
from risk.replay.forecast import scenario_plan
from risk.replay.judge import (
    backtest_facts,
    calibrate_liquidations,
    judge,
    judge_liquidations,
)
from risk.replay.night import TABLES, check_night, night_file, run_night
from risk.replay.shared import write_bars
from risk.schema import LABELS
from risk.snapshot import load_snapshot, resolve_snapshot
from risk.store import (
    Run,
    Workspace,
    file_digest,
    finished_run,
    open_run,
    open_workspace,
    publish,
    run_id,
)

#: Folder of the backtests, inside the folder of runs.
FOLDER = "backtest"

#: Share of the next day's excursion that lands as one jump where the config names none: about
#: what the worst five minutes of 2024-08-05 made of that day's fall (docs/methods/historical.md).
DEFAULT_GAP = 0.3

#: Forecasts are one day ahead whatever the config's horizon: days must not overlap.
HORIZON_DAYS = 1

#: Days of history a Monte Carlo calibration needs before the first night.
MIN_CALIBRATION_DAYS = 61

#: Texts of the book that no night reads.
NOT_NEEDED = ["position_id", "account", "reason", "symbol", "book"]

SCRATCH = (
    "blocks", "nights", "ladders", "history.npz", "marks.npz", "plan.json", "book.parquet",
    "coverage.parquet",
)  # fmt: skip


def backtest(
    config: Config,
    first: dt.date,
    last: dt.date,
    *,
    marks: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Replay every night from `first` to `last` on the static book of the config's snapshot.

    The book is kept in terms of ratios: exposures, collateral and trigger ratios as of its
    snapshot, as if re-marked to each night's close. Every night forecasts one day ahead from what
    was known then; the next day's low, high and last, under the gap rule, make the hypothetical
    P&L. Nights are blocks: they fan out, and a backtest that was killed goes on where it was.

    Parameters
    ----------
    config : Config
        The sets `historical` and `monte_carlo` are forecast with, where it names them, at every
        level of its measures.
    first, last : date
        Nights, inclusive; the history must reach from the windows before the first to the day
        after the last.
    marks : Path, optional
        History of mark prices (any interval) that liquidations are counted on; the config's
        history when absent.
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the manifest's timings.

    Returns
    -------
    Run
        Below ``OUT/backtest``: `days`, `causes`, `liquidations`, `calibration`, `tests` and
        `facts`, each a Parquet file with a schema of `risk.replay.tables`.

    Raises
    ------
    ConfigError
        If the period is empty or not covered, or the config names no set to forecast with.
    DataError
        If no position can be priced.
    """
    snapshot = resolve_snapshot(config.snapshot, config.as_of_date)
    plan = _plan(config, first, last)
    inputs = _inputs(config, snapshot, marks) | {"period": f"{first}..{last}"}
    name = run_id(inputs, config_digest(config), last)
    out = config.out / FOLDER
    if done := finished_run(out, last, name):
        return open_run(done)
    timings: dict[str, float] = {}
    begun = clock() if clock else 0.0
    with open_workspace(out, last, name) as workspace:
        _prepare(workspace.path, config, plan, snapshot, marks)
        nights = plan_blocks({"night": (last - first).days + 1}, 1)
        execution = config.execution
        run_blocks(
            run_night,
            check_night,
            str(workspace.path.resolve()),
            nights,
            executor=execution.executor,
            workers=execution.workers,
            address=execution.address,
            tls=None if execution.tls is None else execution.tls.model_dump(mode="json"),
            progress=(lambda n, total: progress("replay", n, total)) if progress else None,
        )
        _finish(workspace.path, nights, last)
        if clock:
            timings["replay"] = clock() - begun
        return open_run(_publish(workspace, config, inputs, timings))


def _plan(config: Config, first: dt.date, last: dt.date) -> dict[str, Any]:
    """What the nights need of the config, as JSON values."""
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


def _inputs(config: Config, snapshot: Path, marks: Path | None) -> dict[str, str]:
    """Digest of every file read, by a name that does not depend on where it lies."""
    read = [
        ("snapshot", snapshot, "*.parquet"), ("snapshot", snapshot, "venues/*.yaml"),
        ("venues", config.venues, "*.yaml"), ("history", config.history, "*.parquet"),
    ]  # fmt: skip
    if marks is not None:
        read.append(("marks", marks, "*.parquet"))
    found = {}
    for key, where, pattern in read:
        files = [where] if where.is_file() else sorted(where.rglob(pattern))
        for file in files:
            found[f"{key}/{file.name if file == where else file.relative_to(where).as_posix()}"] = (
                file_digest(file)
            )
    return dict(sorted(found.items()))


def _prepare(
    folder: Path, config: Config, plan: dict[str, Any], where: Path, marks: Path | None
) -> None:
    """Write what the nights share: plan, prices, book and ladders."""
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
    if marks is not None:
        day = _after(plan)
        bars = load_history(marks, day, wick_filter=False)
        # A day that lacks hours may hide the one that liquidates.
        whole = ~bars["incomplete"]
        history = bars.assign({name: bars[name].where(whole) for name in ("low", "high", "close")})
    write_bars(folder / "marks.npz", history)
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


def _finish(folder: Path, nights: tuple[Block, ...], last: dt.date) -> None:
    """Join the nights, in their order, and judge them."""
    joined = {
        name: pa.concat_tables(pq.read_table(night_file(folder, night, name)) for night in nights)
        for name in TABLES
    }
    for name in ("days", "liquidations"):
        order = [("scenario_set", "ascending"), ("night", "ascending")]
        order[1:1] = [("confidence", "ascending")] if name == "days" else []
        joined[name] = joined[name].sort_by(order)
    exceeded = joined["days"].filter(joined["days"]["is_exceedance"])["night"]
    joined["causes"] = joined["causes"].filter(
        pc.is_in(joined["causes"]["night"], pc.unique(exceeded))
    )
    tests = pa.concat_tables([judge(joined["days"]), judge_liquidations(joined["liquidations"])])
    results = {
        "days": joined["days"],
        "causes": joined["causes"],
        "liquidations": joined["liquidations"],
        "calibration": calibrate_liquidations(joined["buckets"]),
        "tests": tests,
        "facts": backtest_facts(tests, last),
    }
    for name, table in results.items():
        pq.write_table(table, folder / f"{name}.parquet")


def _publish(
    workspace: Workspace, config: Config, inputs: dict[str, str], timings: dict[str, float]
) -> Path:
    return publish(
        workspace,
        config,
        inputs,
        coverage=pq.read_table(workspace.path / "coverage.parquet"),
        timings=timings,
        scratch=SCRATCH,
    )
