"""The backtest of tonight's book, and the lines of the capital page."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.backtest import traffic_light
from risk.block import SET_CODES
from risk.capital import Exceedances, load_capital
from risk.cube import read_dataset
from risk.errors import ConfigError
from risk.liquidation import Ladders, build_ladders, load_ladders
from risk.pipeline.files import read_json
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night
from risk.replay import read_bars
from risk.solvency import WindowPnl, capital_lines, watch_book, window_pnl
from risk.solvency.tails import HORIZON_DAYS, YEAR_DAYS
from risk.solvency.watch import N_DAYS

#: Where the config replays no history: windows of a forecast, and the share of a jump.
_WINDOWS, _GAP = 1000, 0.3

_CONFIDENCE = 0.99


def regulate(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Backtest tonight's book on past days; compute the capital page from it and more windows."""
    config, folder = night.config, night.folder
    replayed = config.scenarios.historical
    gap = _gap(night)
    most = replayed.windows if replayed else _WINDOWS
    bars = read_bars(folder / "bars.npz").sel(asset=assets)
    ladders = _ladders(night, book, assets)
    calibration = read_dataset(folder / "calibration.zarr")

    def windows(count: int, horizon_days: int) -> WindowPnl | None:
        try:
            return window_pnl(
                ladders,
                bars,
                calibration,
                windows=count,
                horizon_days=horizon_days,
                gap=gap,
                seed=config.seed,
                set_code=SET_CODES["historical"],
            )
        except ConfigError:  # the history is too short for this horizon
            return None

    one_day = windows(most + N_DAYS, 1)
    found = None
    if one_day is not None:
        watched = watch_book(one_day, most=most, confidence=_CONFIDENCE)
        pq.write_table(watched, folder / "watch.parquet")
        found = _exceedances(watched)
    if config.capital is None:
        return
    lines = capital_lines(
        load_capital(config.capital, night.as_of),
        night.as_of,
        book=book,
        ladders=ladders,
        bars=bars,
        ten_days=windows(bars.sizes["day"], HORIZON_DAYS),
        days=_latest_year(one_day)
        if config.horizon_days == 1
        else windows(YEAR_DAYS, config.horizon_days),
        backtest=found,
        funds=pq.read_table(folder / "funds.parquet"),
        gap=gap,
        horizon_days=config.horizon_days,
        impact=read_impact(night),
    )
    pq.write_table(lines, folder / "capital.parquet")


def _latest_year(windows: WindowPnl | None) -> WindowPnl | None:
    """The windows that end in the latest year."""
    return None if windows is None else windows.latest(YEAR_DAYS)


def _gap(night: Night) -> float:
    """The share of a move that lands as one jump, as the historical set was made with."""
    if night.config.scenarios.historical is None:
        return _GAP
    return float(read_json(night.folder / "market.json")["gap"])


def _ladders(night: Night, book: pa.Table, assets: list[str]) -> Ladders:
    """The night's ladders, unless their cells lack the labels asked for here."""
    if {"asset", "venue"} <= set(night.config.cells):
        return load_ladders(night.folder / "ladders")
    most = night.config.max_cells
    return build_ladders(book, assets, ["venue", "asset"], most, impact=read_impact(night))


def _exceedances(watched: pa.Table) -> Exceedances | None:
    n = watched.num_rows
    if not n:
        return None
    count = int(pc.sum(watched["is_exceedance"]).as_py())
    days = watched["day"].to_pylist()
    return Exceedances(
        count=count,
        n_days=n,
        zone=traffic_light(count, n, _CONFIDENCE).zone,
        basis=(
            f"hypothetical P&L of tonight's book on {n} days, {days[0]} to {days[-1]}, against "
            f"{watched['n_windows'][0].as_py()} windows before each"
        ),
    )
