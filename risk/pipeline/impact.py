"""What closing does to the price on this night: volatilities and volumes, kept for every stage."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.book import read_book
from risk.errors import ConfigError
from risk.instruments import asset_places
from risk.liquidation import Impact, square_root_impact
from risk.pipeline.carry import driver_names
from risk.pipeline.night import Night

_FILE = "impact.parquet"


def write_impact(
    night: Night, history: xr.Dataset, assets: list[str], volatility: xr.DataArray
) -> None:
    """Write `impact.parquet`: coefficient, daily volatility and daily volume of every asset.

    Raises
    ------
    ConfigError
        If the config asks for impact and an asset of the book has no volume, or it gives a
        coefficient to an asset without a price.
    """
    config, folder = night.config, night.folder
    wanted = config.liquidation.impact
    if wanted.coefficient is None:
        return
    if unknown := sorted(set(wanted.assets) - set(assets)):
        raise ConfigError(
            f"liquidation.impact.assets: {unknown[0]} has no price in the history; leave it out"
        )
    if wanted.volume == "history":
        volume = _traded(history, assets, wanted.volume_days)
    else:
        listed = pq.read_table(folder / "volumes.parquet").to_pydict()
        known = dict(zip(listed["asset"], listed["volume_usd"], strict=True))
        volume = np.array([known.get(asset, np.nan) for asset in assets])
    has_volume = volume > 0
    book = read_book(folder, ["asset", "status"])
    held = set(book.filter(pc.equal(book["status"], "ok"))["asset"].to_pylist())
    lacking = [asset for asset, ok in zip(assets, has_volume, strict=True) if not ok]
    if missing := sorted(held & set(lacking)):
        raise ConfigError(
            f"liquidation.impact: {missing[0]} is in the book and has no volume in the "
            f"{wanted.volume}; mend the volumes, or set liquidation.impact.volume"
        )
    table = pa.table(
        {
            "asset": pa.array(assets, pa.string()),
            "coefficient": [wanted.assets.get(asset, wanted.coefficient) for asset in assets],
            "volatility": volatility.sel(asset=assets).values.astype("f8"),
            "volume_usd": pa.array(volume, mask=~has_volume),
        }
    )
    pq.write_table(table, folder / _FILE)


def write_volumes(night: Night, contracts: pa.Table) -> None:
    """Write `volumes.parquet`: USD of 24 hours by asset, over all venues and contracts."""
    if night.config.liquidation.impact.volume != "contracts":
        return
    volumes = pa.table({"asset": contracts["base"], "volume_usd": contracts["volume_24h_usd"]})
    total = volumes.group_by("asset", use_threads=False).aggregate([("volume_usd", "sum")])
    total = total.rename_columns({"volume_usd_sum": "volume_usd"}).sort_by("asset")
    pq.write_table(total, night.folder / "volumes.parquet")


def read_impact(night: Night, *, cascade: bool = True) -> Impact | None:
    """What closing does to the price, as the ladders take it; None where it does nothing.

    `cascade=False` is the first round of a config with a cascade: everyone closes for themselves.
    """
    wanted, chain = night.config.liquidation.impact, night.config.liquidation.cascade
    if wanted.coefficient is None:
        return None
    table = pq.read_table(night.folder / _FILE)
    volume = table["volume_usd"].to_numpy()
    impact = square_root_impact(
        table["volatility"].to_numpy(),
        # Nothing of these is held.
        np.where(np.isnan(volume), 1.0, volume),
        coefficient=table["coefficient"].to_numpy(),
        slices=wanted.slices,
        hours=wanted.hours,
        adverse=wanted.adverse,
        cascade=chain is not None and cascade,
        permanent=chain.permanent if chain else 0.0,
    )
    return impact.take(asset_places(driver_names(night, table["asset"].to_pylist())))


def _traded(history: xr.Dataset, assets: list[str], days: int) -> np.ndarray:
    """Mean USD a day over the last days that have a volume (asset,)."""
    last = history.sel(asset=assets).isel(day=slice(-days, None))
    usd = (last["close"] * last["volume"]).values
    counted = np.isfinite(usd)
    total = np.where(counted, usd, 0.0).sum(axis=0)
    return np.where(counted.any(axis=0), total / np.maximum(counted.sum(axis=0), 1), np.nan)
