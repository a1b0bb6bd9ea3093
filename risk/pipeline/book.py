"""The book of a night: loaded, margined, laddered, and walked through every scenario."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq

from risk import findings
from risk.block import READS, check, run_block
from risk.book import read_book, write_book
from risk.config import Config
from risk.coverage import gross_notional, mark_unpriced
from risk.cube import create_stores, finish_drivers
from risk.engine import Block, plan_blocks, run_blocks
from risk.errors import ConfigError, DataError
from risk.liquidation import build_ladders
from risk.margin.book import build_book
from risk.market.history import load_history, universe
from risk.pipeline.apart import mark_apart
from risk.pipeline.branch import branch_snapshot
from risk.pipeline.carry import driver_names, read_carry, write_instruments
from risk.pipeline.depths import write_thin_ladders
from risk.pipeline.files import read_json, write_json
from risk.pipeline.impact import read_impact, write_volumes
from risk.pipeline.night import Night, Progress
from risk.pipeline.scenarios import path_settings, scenario_labels
from risk.snapshot import load_snapshot
from risk.snapshot.recount import recount
from risk.worker import version


def load_book(night: Night, progress: Progress | None = None) -> None:
    """Read and check the snapshot; margin every position; keep the bad rows with their reasons."""
    config, folder = night.config, night.folder
    snapshot = load_snapshot(config.snapshot, as_of=night.as_of, venue_folders=[config.venues])
    snapshot = branch_snapshot(night, snapshot)
    if not snapshot.n_rows and not config.allow_empty:
        raise DataError(
            f"{snapshot.path}: the book holds no position; set allow_empty: true if that is right"
        )
    history = load_history(config.history, night.as_of)
    assets = universe(history, night.as_of)
    if not assets:
        raise ConfigError(
            f"{config.history}: no asset has a price on {night.as_of}; lengthen the history"
        )
    book = build_book(
        snapshot.positions,
        snapshot.contracts,
        snapshot.tiers,
        snapshot.venues,
        as_of=night.as_of,
        accounts=snapshot.accounts,
    )
    gross = gross_notional(snapshot.positions, snapshot.contracts)
    book = mark_unpriced(book, assets).append_column("gross_notional_usd", gross)
    book = mark_apart(night, book, snapshot.contracts)
    write_book(folder, book)
    write_instruments(night, book, snapshot.contracts)
    pq.write_table(snapshot.quarantine, folder / "quarantine.parquet")
    write_volumes(night, snapshot.contracts)
    pq.write_table(findings.insurance_funds(snapshot.venues, history), folder / "funds.parquet")
    write_json(
        folder / "snapshot.json",
        {
            "n_rows": snapshot.n_rows,
            "is_synthetic": snapshot.is_synthetic,
            "notes": list(snapshot.notes),
            # What a what-if book holds is in no file.
            "recount": None
            if config.what_if
            else recount(snapshot.path, snapshot.quarantine)._asdict(),
        },
    )


def build_book_ladders(night: Night, progress: Progress | None = None) -> None:
    """Sort the book into ladders, plan the blocks, and lay out the empty cube."""
    config, folder = night.config, night.folder
    assets = driver_names(night, read_json(folder / "market.json")["assets"])
    carry = read_carry(night)
    book = read_book(folder)
    ladders = build_ladders(book, assets, config.cells, config.max_cells, impact=read_impact(night))
    ladders.save(folder / "ladders")
    write_thin_ladders(night, book, assets)
    plan = {"monte_carlo": path_settings(config), "carry": carry.to_dict() if carry else None}
    write_json(folder / "plan.json", plan)
    # A resumed run keeps its cube: wiping it would throw the finished blocks away.
    if not (folder / "stores.json").exists():
        labels = {name: scenario_labels(night, name) for name in config.scenarios.names}
        create_stores(folder, labels, ladders.cells, assets, block_size(config))
        write_json(
            folder / "stores.json",
            {name: int(one.sizes["scenario"]) for name, one in labels.items()},
        )


def simulate(night: Night, progress: Progress | None = None) -> None:
    """Run every block that is not yet on disk, in this process or on dask."""
    config = night.config
    blocks = plan(night)
    execution = config.execution
    run_blocks(
        run_block,
        check,
        str(night.folder.resolve()),
        blocks,
        executor=execution.executor,
        workers=night.workers or execution.workers,
        address=execution.address,
        tls=None if execution.tls is None else execution.tls.model_dump(mode="json"),
        shared=execution.shared,
        cache=execution.cache,
        reads=READS,
        version=version,
        progress=(lambda done, total: progress("simulate", done, total)) if progress else None,
    )
    n_blocks = Counter(block.scenario_set for block in blocks)
    finish_drivers(night.folder, {name: n_blocks[name] for name in config.scenarios.names})


def plan(night: Night) -> tuple[Block, ...]:
    """The blocks of the night."""
    return plan_blocks(read_json(night.folder / "stores.json"), block_size(night.config))


def block_size(config: Config) -> int:
    """Scenarios per block, of every set."""
    drawn = config.scenarios.monte_carlo
    return drawn.block if drawn else 4096
