"""Options of a book as contracts, ladders of writers and sums of holders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.errors import DataError
from risk.liquidation.options.columns import Bought, Contracts, Holdings, Options, Written
from risk.margin.options import OptionTerms, read_option_terms

#: Columns of `Contracts` that `OptionTerms` has under the same name.
_GIVEN = (
    "is_call", "is_inverse", "strike", "index_price", "years", "carry", "volatility", "mark",
    "offset", "base_rate", "mark_rate", "trigger_fee", "closing_fee", "liquidation_fee",
)  # fmt: skip


def is_option(book: pa.Table) -> np.ndarray:
    """Which rows of a book (row,) hold an option that can be priced."""
    return book["option_terms"].is_valid().to_numpy(zero_copy_only=False)


def read_options(book: pa.Table, assets: Sequence[str]) -> tuple[Contracts, Holdings]:
    """Contracts and positions of the priced options of a book.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`; only rows with status ``ok`` are used.
    assets : sequence of str
        The drivers' assets; every priced option's asset must be among them.

    Returns
    -------
    Contracts, Holdings
        Contracts in order of asset and terms; venues that list the same one share it.

    Raises
    ------
    DataError
        If a priced option's asset has no driver.
    """
    is_priced = pc.equal(book["status"], "ok").to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(is_priced & is_option(book))
    priced = book.select(
        ["asset", "option_terms", "option_units", "option_margin", "direction"]
    ).take(pa.array(rows))
    asset = priced["asset"].cast(pa.string()).to_pylist()
    text = priced["option_terms"].cast(pa.string()).to_pylist()
    if unknown := sorted(set(asset) - set(assets)):
        raise DataError(f"no driver for asset {', '.join(unknown)}; mark its positions unpriced")
    place = {name: i for i, name in enumerate(assets)}
    named = sorted({(place[a], t) for a, t in zip(asset, text, strict=True)})
    terms = [read_option_terms(t) for _, t in named]
    number = {name: k for k, name in enumerate(named)}
    contract = np.array([number[place[a], t] for a, t in zip(asset, text, strict=True)], "i8")

    units = priced["option_units"].to_numpy(zero_copy_only=False)
    is_written = priced["direction"].to_numpy(zero_copy_only=False) < 0
    margin = np.where(is_written, priced["option_margin"].to_numpy(zero_copy_only=False), 0.0)
    is_strict = np.array([one.is_strict for one in terms], bool)[contract]
    backing = margin / units
    # Where equality is safe, the next number is what must be reached.
    backing = np.where(is_strict, np.nextafter(backing, np.inf), backing)
    backing = np.where(is_written, backing, np.inf)
    holdings = Holdings(rows, contract, is_written, units, margin, backing)
    return _contracts([a for a, _ in named], terms, holdings), holdings


def build_options(
    contracts: Contracts, holdings: Holdings, cell: np.ndarray, own_cells: np.ndarray
) -> Options:
    """Ladders of the written options and sums of the bought ones.

    Parameters
    ----------
    contracts : Contracts
    holdings : Holdings
    cell : ndarray (position,)
        Cube cell of every position.
    own_cells : ndarray of int
        Cells that no ladder fills.
    """
    sold = np.flatnonzero(holdings.is_written)
    # Ties keep book order, that is position id.
    order = sold[np.lexsort((holdings.backing[sold], cell[sold], holdings.contract[sold]))]
    key = np.stack([holdings.contract[order], cell[order]], axis=1)
    pairs, first = np.unique(key, axis=0, return_index=True)
    start = np.append(first, len(order)).astype("i8")
    written = Written(
        contract=pairs[:, 0].astype("i8"),
        cell=pairs[:, 1].astype("i8"),
        start=start,
        backing=holdings.backing[order],
        units=_running(holdings.units[order], start),
        margin=_running(holdings.margin[order], start),
    )
    owned = np.flatnonzero(~holdings.is_written)
    key = np.stack([holdings.contract[owned], cell[owned]], axis=1)
    pairs, where = np.unique(key, axis=0, return_inverse=True)
    units = np.bincount(where.ravel(), holdings.units[owned], len(pairs))
    bought = Bought(pairs[:, 0].astype("i8"), pairs[:, 1].astype("i8"), units)
    return Options(contracts, written, bought, own_cells.astype("i8"))


def _contracts(asset: list[int], terms: list[OptionTerms], holdings: Holdings) -> Contracts:
    lowest, highest = np.full(len(terms), np.inf), np.full(len(terms), -np.inf)
    sold = holdings.is_written
    np.minimum.at(lowest, holdings.contract[sold], holdings.backing[sold])
    np.maximum.at(highest, holdings.contract[sold], holdings.backing[sold])
    kinds = {"is_call": bool, "is_inverse": bool}
    columns = {
        name: np.array([getattr(one, name) for one in terms], kinds.get(name, "f8"))
        for name in _GIVEN
    }
    to_holder = np.array([one.leftover_to_holder for one in terms], bool)
    return Contracts(
        asset=np.array(asset, "i8"), **columns, to_holder=to_holder, lowest=lowest, highest=highest
    )


def _running(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Running sums of each ladder from its own zero: one row more than rungs."""
    sums = [np.append(0.0, np.cumsum(values[a:b])) for a, b in pairwise(start.tolist())]
    return np.concatenate(sums) if sums else np.empty(0)
