"""Which isolated positions may pay too much funding for it to be folded into their price."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.instruments import Instrument
from risk.liquidation.terms import close_out_terms, driver_places, label_codes
from risk.margin.pooling import APART
from risk.margin.slopes import requirement_slopes
from risk.market.funding import TICKS, load_funding
from risk.pipeline.carry import book_instruments
from risk.pipeline.files import write_json
from risk.pipeline.night import Night

#: What the choice came to.
FILE = "folding.json"

_TICKS_PER_DAY = 3


def mark_apart(night: Night, book: pa.Table, contracts: pa.Table) -> pa.Table:
    """Mark the isolated positions that are lived alone instead of folded, with their funding.

    They are those whose requirement's rate on the mark times `funding_bounds` is not below
    `fold_below`. Nothing but a position's own row, its instrument and the history decides, so a
    position changes nobody else's way. What liquidations cut in steps stays folded.
    """
    wanted, config = night.config.scenarios.carry, night.config
    if wanted is None or not wanted.funding or wanted.fold_below is None:
        return book
    if config.liquidation.cascade is not None or set(config.scenarios.names) <= {"stress"}:
        return book  # a cascade folds funding into the one price of an asset; stresses are folded
    listed = book_instruments(book, contracts, night.as_of)
    funding = load_funding(config.history, night.as_of)
    bounds = funding_bounds(listed, funding, config.horizon_days)
    is_alone = pc.and_(book["option_terms"].is_null(), book["pool_holdings"].is_null())
    is_priced = pc.and_(pc.equal(book["status"], "ok"), is_alone)
    rows = np.flatnonzero(is_priced.to_numpy(zero_copy_only=False))
    part = book.take(pa.array(rows))
    assets, _ = label_codes(part["asset"])
    names = [*assets, *(one.name for one in listed)]
    most = np.append(np.zeros(len(assets)), bounds)
    error = requirement_slopes(part) * most[driver_places(part, names)]
    above = np.flatnonzero((error > 0) & (error >= wanted.fold_below))
    # Closing costs left out: what may be cut with them may be cut without.
    terms = close_out_terms(part.take(pa.array(above)), names).terms
    apart = rows[np.delete(above, np.flatnonzero(terms.rule >= 0))]
    marked = np.zeros(book.num_rows, bool)
    marked[apart] = True
    write_json(night.folder / FILE, {"above": len(above), "apart": len(apart)})
    return book.append_column(APART, pa.array(marked))


def funding_bounds(
    instruments: Sequence[Instrument], funding: xr.DataArray | None, horizon_days: int
) -> np.ndarray:
    """The most that a horizon's funding is taken to come to (instrument,), share of the price.

    The larger of tonight's rate at every tick of eight hours, and of the largest sum, either way,
    that as many ticks came to in the part of the history that rates are calibrated on.

    Examples
    --------
    >>> swap = Instrument("BTC / perpetual USDT", "BTC", "USDT", False, -2e-4, 0.0, None)
    >>> past = xr.DataArray([[1e-4], [5e-4], [4e-4], [-3e-4], [0.0]], dims=("instant", "asset"),
    ...                     coords={"asset": ["BTC"]})
    >>> funding_bounds([swap], past, 1).round(6).tolist()
    [0.001]
    """
    ticks = _TICKS_PER_DAY * horizon_days
    past: dict[str, float] = {}
    if funding is not None:
        rates = np.nan_to_num(funding.values[-TICKS - 1 :])
        if len(rates) >= ticks:
            total = np.cumsum(np.vstack([np.zeros(rates.shape[1]), rates]), axis=0)
            largest = np.abs(total[ticks:] - total[:-ticks]).max(axis=0)
            names = [str(name) for name in funding["asset"].values]
            past = dict(zip(names, largest.tolist(), strict=True))
    return np.array(
        [
            max(ticks * abs(one.funding_rate or 0.0), past.get(one.asset, 0.0))
            if one.is_perpetual
            else 0.0
            for one in instruments
        ]
    )
