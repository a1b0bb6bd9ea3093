"""How the book is spread: notional, equity and market exposure, by roll-up and by account."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.reports.exposures import EXPOSURES, LARGE, LEVELS

_AMOUNTS = ("exposure_usd", "notional_usd", "equity_usd")


def exposures(book: pa.Table, calibration: xr.Dataset | None) -> pa.Table:
    """Notional, equity, market exposure and correlated loss of every group and large account.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`; priced rows count.
    calibration : Dataset (asset) or None
        `beta` to the market and `volatility` of one day, fractions; without it the amounts that
        need them are null.

    Returns
    -------
    Table (group,)
        Schema `risk.reports.exposures.EXPOSURES`. Options count with their delta. Accounts below a
        thousandth of the notional have no row; ``n_groups`` and ``herfindahl`` count them too.
    """
    labels = dict.fromkeys(["asset", "kind", *(name for name in LEVELS if name != "total")])
    priced = book.select([*labels, *_AMOUNTS]).filter(pc.equal(book["status"], "ok"))
    exposure = _floats(priced, "exposure_usd")
    is_option = pc.equal(priced["kind"].cast(pa.string()), "option").to_numpy(zero_copy_only=False)
    notional = np.where(is_option, np.abs(exposure), _floats(priced, "notional_usd"))
    equity = _floats(priced, "equity_usd")
    assets, of_asset = _codes(priced, "asset")
    beta = _of_assets(calibration, "beta", assets)
    sigma = _of_assets(calibration, "volatility", assets)
    whole = notional.sum()
    rows = []
    for level in LEVELS:
        if level == "total":
            names, codes = np.array(["all"], object), np.zeros(len(notional), "i8")
        else:
            names, codes = _codes(priced, level)
        n = len(names)
        held = np.bincount(codes, notional, n)
        share = held / whole if whole > 0 else np.zeros(n)
        kept = share >= LARGE if level == "account" else np.ones(n, bool)
        place = np.where(kept, np.cumsum(kept) - 1, -1)[codes] if n else codes
        inside = place >= 0
        flat = place[inside] * len(assets) + of_asset[inside]
        n_kept = int(kept.sum())
        net = np.bincount(flat, exposure[inside], n_kept * len(assets)).reshape(n_kept, len(assets))
        columns = {
            "n_positions": np.bincount(codes, minlength=n)[kept],
            "notional_usd": held[kept],
            "equity_usd": np.bincount(codes, equity, n)[kept],
            "market_exposure_usd": _weighed(net, beta),
            "correlated_loss_usd": _weighed(np.abs(net), sigma),
        }
        spread = float((share**2).sum())
        for at, name in enumerate(names[kept]):
            row = {key: _known(column[at]) for key, column in columns.items()}
            rows.append(
                {"level": level, "group": str(name), "n_groups": n, "herfindahl": spread} | row
            )
    return pa.Table.from_pylist(rows, schema=EXPOSURES)


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return np.nan_to_num(table[name].to_numpy(zero_copy_only=False).astype("f8"))


def _codes(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values in their order, and the place of each row's among them."""
    column = table[name].combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.to_numpy(zero_copy_only=False)
    used = np.flatnonzero(np.bincount(codes, minlength=len(column.dictionary)))
    names = column.dictionary.take(pa.array(used))
    order = pc.array_sort_indices(names).to_numpy()
    rank = np.empty(len(column.dictionary), "i8")
    rank[used[order]] = np.arange(len(order))
    return np.asarray(names.take(pa.array(order)).to_pylist(), object), rank[codes]


def _of_assets(calibration: xr.Dataset | None, name: str, assets: np.ndarray) -> np.ndarray:
    """A number of every asset, NaN where there is none."""
    if calibration is None or name not in calibration:
        return np.full(len(assets), np.nan)
    names = [str(asset) for asset in calibration["asset"].values]
    known = dict(zip(names, calibration[name].values, strict=True))
    return np.array([known.get(str(asset), np.nan) for asset in assets], "f8")


def _weighed(net: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sums over the assets held; NaN only where one of these has no weight."""
    return np.where(net != 0.0, net * weight, 0.0).sum(axis=1)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
