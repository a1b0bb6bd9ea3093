"""The scenarios of a night: calibrated, laid out, named."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import xarray as xr

from risk import findings
from risk.block import SET_CODES
from risk.config import Config
from risk.cube import load_record, plain_text, read_dataset, save_record
from risk.drivers import slice_drivers, with_volatility
from risk.market.calibration import calibrate
from risk.market.funding import calibrate_funding, load_funding
from risk.market.gaps import calibrated_gap, gap_shares, has_fine_bars
from risk.market.history import load_history, universe
from risk.market.implied import calibrate_implied, implied_multiples, load_implied
from risk.market.volatility import ewma_model, garch_model
from risk.pipeline.carry import funding_levels, read_carry, ride_windows
from risk.pipeline.files import write_json
from risk.pipeline.impact import write_impact
from risk.pipeline.night import Night, Progress
from risk.replay import write_bars
from risk.scenarios.historical import historical_drivers
from risk.scenarios.monte_carlo import path_weights
from risk.scenarios.stress import load_stresses, stress_drivers


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
    implied = load_implied(config.history, night.as_of)
    calibration = calibration.merge(
        calibrate_implied(history, implied, assets, calibration.attrs["market"]),
        combine_attrs="no_conflicts",
    )
    funding = load_funding(config.history, night.as_of) if config.scenarios.carry else None
    calibration = calibration.merge(
        calibrate_funding(funding, history, assets, calibration.attrs["market"]),
        combine_attrs="no_conflicts",
    )
    plain_text(calibration).to_zarr(folder / "calibration.zarr", mode="w", consolidated=False)
    write_impact(night, history, assets, calibration["volatility"])
    bars, shares = window_bars(config, history, night.as_of), None
    if config.scenarios.historical and has_fine_bars(config.history):
        shares = gap_shares(config.history, night.as_of)
    records = {
        name: with_implied(record, implied, calibration, config.horizon_days)
        for name, record in historical_records(config, bars, assets, calibration, shares).items()
    }
    moved = (assets, calibration["beta"], calibration["volatility"])
    stresses = load_stresses(config.scenarios.stress.folder) if config.scenarios.stress else []
    if stresses:
        records["stress"] = stress_drivers(stresses, *moved)
    write_bars(folder / "bars.npz", history.sel(asset=assets))
    notes = findings.market_notes(history, assets, calibration, records)
    notes |= findings.window_notes(bars, assets, shares, config)
    write_json(folder / "market.json", notes)
    carry, levels = read_carry(night), funding_levels(calibration)
    for name, record in records.items():
        if name != "stress":
            record, share = ride_windows(record, carry, funding, levels, config)
            write_json(folder / "carry.json", {"missing_share": share})
        elif carry:
            instruments, alone = carry.instruments, carry.as_assets
            record = stress_drivers(stresses, *moved, instruments, as_assets=alone)
        save_record(folder / "scenarios" / f"{name}.zarr", record)


def with_implied(
    record: xr.Dataset, implied: xr.DataArray | None, calibration: xr.Dataset, horizon_days: int
) -> xr.Dataset:
    """A historical record with the moves of the implied volatilities of its windows."""
    ends = last_days(record.label.values)
    starts = ends - np.timedelta64(horizon_days - 1, "D")
    last = record["last"].values
    multiple = implied_multiples(implied, calibration, starts, ends, last)
    return with_volatility(record, multiple, horizon_days)


def last_days(labels: np.ndarray) -> np.ndarray:
    """The UTC day of every window's last bar; hourly windows are named by the instant they end.

    Examples
    --------
    >>> names = np.array(["2024-08-09", "2024-08-09T18:00Z", "2024-08-10T00:00Z"], object)
    >>> last_days(names).astype(str).tolist()
    ['2024-08-09', '2024-08-09', '2024-08-09']
    """
    text = labels.astype("U17")
    is_hourly = np.char.endswith(text, "Z")
    instant = np.char.rstrip(text, "Z").astype("M8[m]")
    return (instant - np.where(is_hourly, 60, 0).astype("m8[m]")).astype("M8[D]")


def window_bars(config: Config, history: xr.Dataset, as_of: dt.date) -> xr.Dataset:
    """The bars that windows are cut from: the daily history, or the hours of its file."""
    wanted = config.scenarios.historical
    if wanted is None or wanted.interval == "1d":
        return history
    return load_history(config.history, as_of, interval=wanted.interval)


def historical_records(
    config: Config,
    bars: xr.Dataset,
    assets: list[str],
    calibration: xr.Dataset,
    shares: xr.Dataset | None = None,
) -> dict[str, xr.Dataset]:
    """One driver record per historical set of the config, each by its own method.

    Parameters
    ----------
    config : Config
    bars : Dataset (day, asset) or (hour, asset)
        From `window_bars`.
    assets : list of str
    calibration : Dataset (asset)
        For the betas of the proxy rule.
    shares : Dataset (episode), optional
        From `risk.market.gaps.gap_shares`; a calibrated gap rule needs it.

    Returns
    -------
    dict of str to Dataset
    """
    wanted = config.scenarios.historical
    if wanted is None:
        return {}
    models = {
        "volatility_scaled": lambda: ewma_model(bars, assets, decay=wanted.volatility_decay),
        "filtered": lambda: garch_model(bars, assets, decay=wanted.volatility_decay),
    }
    gap = calibrated_gap(shares) if wanted.gap == "calibrated" else wanted.gap
    return {
        name: historical_drivers(
            bars,
            assets,
            windows=wanted.windows,
            horizon_days=config.horizon_days,
            step_hours=wanted.step_hours,
            gap=gap,
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


def scenario_labels(night: Night, name: str) -> xr.Dataset:
    """Label, source and weight of every scenario of a set, on `scenario`."""
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
