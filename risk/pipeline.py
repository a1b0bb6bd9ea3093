"""The whole night as a plain loop: snapshot, scenarios, ladders, cube, measures, reports.

Every stage is a function of a `Night` that reads and writes the run's folder, so that a scheduler
can call the same functions one by one, and a night that was killed is resumed by starting it again.
`flows.nightly` is this loop under Prefect; the bytes are the same.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from risk import explore, findings
from risk.block import SET_CODES, check, run_block
from risk.config import Config, config_digest
from risk.coverage import coverage, gross_notional, mark_unpriced
from risk.cube import (
    create_stores,
    finish_drivers,
    load_record,
    open_cube,
    open_drivers,
    plain_text,
    read_dataset,
    save_record,
)
from risk.drivers import slice_drivers
from risk.engine import Block, Workers, plan_blocks, run_blocks
from risk.errors import ConfigError, DataError
from risk.liquidation import account_losses, build_ladders, liquidation_curve
from risk.liquidation.tails import position_tails
from risk.margin.book import build_book, margin_table
from risk.market.calibration import calibrate
from risk.market.history import load_history, universe
from risk.market.volatility import ewma_model, garch_model
from risk.measures import measure_cube
from risk.reports import collect_facts
from risk.scenarios.historical import historical_drivers
from risk.scenarios.monte_carlo import path_weights
from risk.scenarios.stress import load_stresses, stress_drivers
from risk.snapshot import load_snapshot, resolve_snapshot
from risk.store import Run, Workspace, file_digest, finished_run, open_run, open_workspace, run_id
from risk.store import publish as publish_run

#: Called with a stage's name, how much of it is done and how much there is.
Progress = Callable[[str, int, int], None]

#: What the stages leave for each other and neither a reader nor the reports need.
SCRATCH = ("plan.json", "blocks", "gaps", "ladders", "scenarios", "stores.json", "breaches.json")

#: What a position's row says of a sampled set: 99 % value at risk, 97.5 % expected shortfall.
TAILS = (
    "liquidation_probability",
    "value_at_risk",
    "expected_shortfall",
    "expected_deficit",
)

#: Own-price moves the liquidation curves are drawn at, as fractions of the mark.
CURVE_MOVES = tuple(round(move / 100, 2) for move in range(-60, 61, 2))


@dataclass(frozen=True)
class Night:
    """One night's work: what to run, on what, and where it is written.

    Attributes
    ----------
    config : Config
    as_of : date
    run_id : str
    inputs : dict of str to str
        SHA-256 of every input file, by a name that does not depend on where the file lies.
    workspace : Workspace or None
        The locked folder of the unfinished run; None when this very run is already finished.
    workers : Workers or None
        Processes that start while the scenarios are prepared; None where none are needed.
    """

    config: Config
    as_of: dt.date
    run_id: str
    inputs: dict[str, str]
    workspace: Workspace | None
    workers: Workers | None = None

    @property
    def folder(self) -> Path:
        """Where the stages write."""
        if self.workspace is None:
            raise RuntimeError("this night is already finished; open its run")
        return self.workspace.path

    @property
    def is_finished(self) -> bool:
        """Whether the same inputs, config and code were already run to the end."""
        return self.workspace is None


def run(
    config: Config,
    *,
    progress: Progress | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Run a night from snapshot to reports.

    Parameters
    ----------
    config : Config
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the manifest's timings, such as `time.perf_counter`; none are kept when absent.

    Returns
    -------
    Run
        The finished run. The same inputs, config and code give the same run, which is recognised
        and not computed again.

    Raises
    ------
    ConfigError, DataError, RunError
        One sentence each; see `risk.errors` for the exit status.
    """
    night = open_night(config)
    if night.is_finished:
        return finished(night)
    timings: dict[str, float] = {}
    try:
        for name, stage in STAGES.items():
            begun = clock() if clock else 0.0
            report_stage(progress, name, 0)
            stage(night, progress)
            report_stage(progress, name, 1)
            timings[name] = (clock() if clock else 0.0) - begun
        return publish(night, timings if clock else None)
    finally:
        close(night)


def report_stage(progress: Progress | None, name: str, done: int) -> None:
    """Say that a stage begins (0) or ends (1)."""
    if progress is not None:
        progress(name, done, 1)


def open_night(config: Config) -> Night:
    """Digest every input, name the run, and open (or find finished) its folder."""
    if config.scenarios.names == ("stress",):
        raise ConfigError(
            "scenarios: stresses alone have no distribution to report; add historical or "
            "monte_carlo, or do one stress with `bulkhead stress`"
        )
    path = resolve_snapshot(config.snapshot, config.as_of_date)
    as_of = dt.date.fromisoformat(path.name.removeprefix("as_of="))
    inputs = {f"snapshot/{name}": digest for name, digest in _digests(path, "*.parquet").items()}
    inputs |= {f"snapshot/{name}": d for name, d in _digests(path, "venues/*.yaml").items()}
    inputs |= {f"venues/{name}": d for name, d in _digests(config.venues, "*.yaml").items()}
    inputs |= {f"history/{name}": d for name, d in _digests(config.history, "*.parquet").items()}
    if config.scenarios.stress:
        found = _digests(config.scenarios.stress.folder, "*.yaml")
        inputs |= {f"stresses/{name}": digest for name, digest in found.items()}
    for key, where in (("capital", config.capital), ("limits", config.limits)):
        if where is not None:
            inputs |= {f"{key}/{name}": d for name, d in _digests(where, "*.yaml").items()}
    name = run_id(inputs, config_digest(config), as_of)
    done = finished_run(config.out, as_of, name)
    workspace = None if done else open_workspace(config.out, as_of, name)
    wanted = config.execution
    workers = None
    if workspace and wanted.executor == "dask" and wanted.address is None:
        workers = Workers(wanted.workers, preload=[run_block.__module__])
        workers.start()
    return Night(config, as_of, name, dict(sorted(inputs.items())), workspace, workers)


def finished(night: Night) -> Run:
    """The finished run of a night that needs no work."""
    path = finished_run(night.config.out, night.as_of, night.run_id)
    assert path is not None
    return open_run(path)


def close(night: Night) -> None:
    """Give the run's lock back; what is on disk is resumed by the next start."""
    if night.workers is not None:
        night.workers.close()
    if night.workspace is not None:
        night.workspace.close()


def load_book(night: Night, progress: Progress | None = None) -> None:
    """Read and check the snapshot; margin every position; keep the bad rows with their reasons."""
    config, folder = night.config, night.folder
    snapshot = load_snapshot(config.snapshot, as_of=night.as_of, venue_folders=[config.venues])
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
    )
    gross = gross_notional(snapshot.positions, snapshot.contracts)
    book = mark_unpriced(book, assets).append_column("gross_notional_usd", gross)
    pq.write_table(book, folder / "book.parquet")
    pq.write_table(snapshot.quarantine, folder / "quarantine.parquet")
    pq.write_table(findings.insurance_funds(snapshot.venues, history), folder / "funds.parquet")
    _write_json(
        folder / "snapshot.json",
        {
            "n_rows": snapshot.n_rows,
            "is_synthetic": snapshot.is_synthetic,
            "notes": list(snapshot.notes),
        },
    )


def prepare_scenarios(night: Night, progress: Progress | None = None) -> None:
    """Calibrate on the history; lay out the historical windows and the stresses."""
    config, folder = night.config, night.folder
    history = load_history(config.history, night.as_of)
    assets = universe(history, night.as_of)
    drawn = config.scenarios.monte_carlo
    calibration = calibrate(
        history,
        assets,
        volatility=drawn.volatility if drawn else "ewma",
        copula=drawn is not None and drawn.model == "t_copula",
    )
    plain_text(calibration).to_zarr(folder / "calibration.zarr", mode="w", consolidated=False)
    records = historical_records(config, history, assets, calibration)
    if config.scenarios.stress:
        stresses = load_stresses(config.scenarios.stress.folder)
        records["stress"] = stress_drivers(
            stresses, assets, calibration["beta"], calibration["volatility"]
        )
    for name, record in records.items():
        save_record(folder / "scenarios" / f"{name}.zarr", record)
    _write_json(
        folder / "market.json", findings.market_notes(history, assets, calibration, records)
    )


def historical_records(
    config: Config, history: xr.Dataset, assets: list[str], calibration: xr.Dataset
) -> dict[str, xr.Dataset]:
    """One driver record per historical set of the config, each by its own method."""
    wanted = config.scenarios.historical
    if wanted is None:
        return {}
    models = {
        "volatility_scaled": lambda: ewma_model(history, assets, decay=wanted.volatility_decay),
        "filtered": lambda: garch_model(history, assets, decay=wanted.volatility_decay),
    }
    return {
        name: historical_drivers(
            history,
            assets,
            windows=wanted.windows,
            horizon_days=config.horizon_days,
            gap=wanted.gap,
            betas=calibration["beta"],
            factor_betas=calibration["factor_beta"],
            method=method,
            age_decay=wanted.age_decay,
            volatility=models[method]() if method in models else None,
            seed=config.seed,
            # The methods share their draws: they differ by method alone.
            set_code=SET_CODES["historical"],
        )
        for name, method in wanted.sets.items()
    }


def path_settings(config: Config) -> dict[str, Any] | None:
    """How the Monte Carlo paths are drawn, as `risk.scenarios.monte_carlo.draw_block` takes it."""
    drawn = config.scenarios.monte_carlo
    if drawn is None:
        return None
    return {
        "seed": config.seed,
        "set_code": SET_CODES["monte_carlo"],
        "steps": drawn.steps,
        "horizon_days": config.horizon_days,
        "model": drawn.model,
        "jumps": drawn.jumps,
        "sampling": drawn.sampling,
        "tilt": drawn.jump_tilt,
        "block_size": drawn.block,
    }


def build_book_ladders(night: Night, progress: Progress | None = None) -> None:
    """Sort the book into ladders, plan the blocks, and lay out the empty cube."""
    config, folder = night.config, night.folder
    assets = _read_json(folder / "market.json")["assets"]
    book = pq.read_table(folder / "book.parquet")
    ladders = build_ladders(book, assets, config.cells, config.max_cells)
    ladders.save(folder / "ladders")
    _write_json(folder / "plan.json", {"monte_carlo": path_settings(config)})
    # A resumed run keeps its cube: wiping it would throw the finished blocks away.
    if not (folder / "stores.json").exists():
        labels = {name: _scenario_labels(night, name) for name in config.scenarios.names}
        create_stores(folder, labels, ladders.cells, assets, _block_size(config))
        _write_json(
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
        progress=(lambda done, total: progress("simulate", done, total)) if progress else None,
    )
    finish_drivers(night.folder, config.scenarios.names)


def plan(night: Night) -> tuple[Block, ...]:
    """The blocks of the night."""
    return plan_blocks(_read_json(night.folder / "stores.json"), _block_size(night.config))


def measure(night: Night, progress: Progress | None = None) -> None:
    """Roll the cube up and measure it; go back to positions and accounts where a reader does."""
    config, folder = night.config, night.folder
    book = pq.read_table(folder / "book.parquet")
    assets = _read_json(folder / "market.json")["assets"]
    proxied = _read_json(folder / "market.json")["proxied"]
    quarantine = pq.read_table(folder / "quarantine.parquet")
    n_rows = _read_json(folder / "snapshot.json")["n_rows"]
    pq.write_table(coverage(book, quarantine, n_rows, proxied), folder / "coverage.parquet")
    sampled = [name for name in config.scenarios.names if name != "stress"]
    if sampled:
        measures = measure_cube(
            open_cube(folder),
            confidences=config.measures.confidence,
            levels=config.cells,
            sets=sampled,
        )
        _write_tree(measures, folder / "measures.zarr")
    pq.write_table(_positions(night, book), folder / "positions.parquet")
    if config.scenarios.stress:
        record = load_record(folder / "scenarios" / "stress.zarr")
        pq.write_table(account_losses(book, record), folder / "accounts.parquet")
    curves = liquidation_curve(book, assets, CURVE_MOVES)
    plain_text(curves).to_zarr(folder / "curves.zarr", mode="w", consolidated=False)
    _explore(night, book, assets)
    sensitivity = findings.gap_sensitivity(folder, config)
    if sensitivity is not None:
        sensitivity.to_zarr(folder / "gap_sensitivity.zarr", mode="w", consolidated=False)


def _explore(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Grids and reverse stress, where the config asks for them."""
    config, folder = night.config, night.folder
    grid, reverse = config.scenarios.grid, config.scenarios.reverse
    if grid is None and reverse is None:
        return
    calibration = _calibration(folder)
    if grid is not None:
        tables, cells = explore.price_grids(
            book,
            assets,
            calibration,
            grid,
            labels=config.cells,
            max_cells=config.max_cells,
            horizon_days=config.horizon_days,
        )
        for name, table in tables.items():
            plain_text(table).to_zarr(
                folder / "grids.zarr", group=name, mode="w", consolidated=False
            )
        pq.write_table(cells, folder / "grid_cells.parquet")
    if reverse is not None:
        funds = pq.read_table(folder / "funds.parquet").to_pylist()
        found = explore.reverse_stresses(
            book,
            assets,
            calibration,
            {fund["venue"]: fund["balance_usd"] or 0.0 for fund in funds},
            reverse,
            seed=config.seed,
            horizon_days=config.horizon_days,
        )
        plain_text(found).to_zarr(folder / "reverse.zarr", mode="w", consolidated=False)


def report(night: Night, progress: Progress | None = None) -> None:
    """Collect the facts and print the officer's report and the capital summary from them."""
    folder = night.folder
    inputs = findings.report_inputs(
        folder, night.config, as_of=night.as_of, run_id=night.run_id, inputs=night.inputs
    )
    facts = collect_facts(inputs)
    pq.write_table(facts, folder / "facts.parquet")
    findings.write_reports(folder, facts, inputs)
    _write_json(folder / "breaches.json", list(findings.breaches(facts, inputs)))


def publish(night: Night, timings: dict[str, float] | None = None) -> Run:
    """Make the finished run visible, in one step."""
    workspace = night.workspace
    assert workspace is not None
    path = publish_run(
        workspace,
        night.config,
        night.inputs,
        coverage=pq.read_table(night.folder / "coverage.parquet"),
        timings=timings or {},
        breaches=_read_json(night.folder / "breaches.json"),
        scratch=SCRATCH,
    )
    return open_run(path)


#: The night, in order; every stage can be run again.
STAGES: dict[str, Callable[[Night, Progress | None], None]] = {
    "load book": load_book,
    "prepare scenarios": prepare_scenarios,
    "build ladders": build_book_ladders,
    "simulate": simulate,
    "measure": measure,
    "report": report,
}


def _positions(night: Night, book: pa.Table) -> pa.Table:
    """The margin table beside each scenario set's tail of every position."""
    margin = margin_table(book)
    names = ("account", *(name for name in ("venue", "symbol", "asset", "side", "book")))
    labels = book.select(names)
    parts = []
    for name in night.config.scenarios.names:
        columns = {"scenario_set": pa.array([name] * len(book), pa.string())}
        columns |= {column: margin[column] for column in margin.column_names}
        columns |= {column: labels[column] for column in names}
        if name == "stress":  # designed, so it has no probabilities
            columns |= {column: pa.nulls(len(book), pa.float64()) for column in TAILS}
        else:
            tails = position_tails(book, open_drivers(night.folder)[name].to_dataset().load())
            found = {column: tails[column].values for column in TAILS}
            columns |= {k: pa.array(v, mask=np.isnan(v)) for k, v in found.items()}
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _scenario_labels(night: Night, name: str) -> xr.Dataset:
    if name == "monte_carlo":
        drawn = night.config.scenarios.monte_carlo
        assert drawn is not None
        numbers = np.arange(drawn.paths)
        labels = np.array([f"path {i}" for i in numbers], object)
        source = f"{drawn.model}, seed {night.config.seed}, block {{}} of {drawn.block}"
        sources = np.array([source.format(i // drawn.block) for i in numbers], object)
        settings = path_settings(night.config)
        assert settings is not None
        calibration = read_dataset(night.folder / "calibration.zarr")
        weight = path_weights(calibration, drawn.paths, settings)
        return xr.Dataset(
            coords={
                "label": ("scenario", labels),
                "source": ("scenario", sources),
                "weight": ("scenario", weight, {"units": "1"}),
            }
        )
    record = load_record(night.folder / "scenarios" / f"{name}.zarr")
    return slice_drivers(record, 0, record.sizes["scenario"])


def _calibration(folder: Path) -> xr.Dataset:
    return xr.open_zarr(folder / "calibration.zarr", consolidated=False, chunks=None).load()


def _block_size(config: Config) -> int:
    drawn = config.scenarios.monte_carlo
    return drawn.block if drawn else 4096


def _digests(where: Path, pattern: str) -> dict[str, str]:
    """Digest of each file below a folder, by its name inside it; or of the one file given."""
    if where.is_file():
        return {where.name: file_digest(where)}
    files = sorted(path for path in where.rglob(pattern) if path.is_file())
    return {path.relative_to(where).as_posix(): file_digest(path) for path in files}


def _write_tree(tree: xr.DataTree, path: Path) -> None:
    plain = xr.DataTree.from_dict(
        {name: plain_text(node.to_dataset()) for name, node in tree.children.items()}
    )
    plain.to_zarr(path, mode="w", consolidated=False)


def _write_json(path: Path, content: Any) -> None:
    # In one step: a resumed night trusts what it finds, so a kill must not leave half a file.
    draft = path.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
