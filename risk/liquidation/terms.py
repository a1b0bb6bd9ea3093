"""Close-out terms: what closing each position pays, as functions of the closing price ratio.

Closing at ratio ``x`` leaves ``v(x) = alpha + beta x`` after market costs. The venue's fee comes
next and never creates a deficit; what is left goes to the holder or the fund:

    deficit    = max(0, -v)
    venue gain = min(fee, v+)  when the leftover is the holder's, else v+
    holder     = v+ - venue gain

Cost, fee and notional are proportional to the price for linear contracts and constant in USD for
inverse ones. The order of payment is `docs/design/0004-ladder.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.errors import ConfigError, DataError


@dataclass(frozen=True)
class Terms:
    """Columns on (position,) of the priced positions, in book order.

    Prices are *adverse coordinates* ``u = -direction * x``: they rise as the price moves against
    the holder, so one comparison ``first <= u`` serves longs and shorts.
    """

    row: np.ndarray  # row in the book
    asset: np.ndarray
    direction: np.ndarray
    is_inverse: np.ndarray
    equity: np.ndarray  # USD at the mark
    exposure: np.ndarray  # USD per unit of price ratio
    first: np.ndarray  # the stop if there is one, else the margin trigger; inf: never closed
    margin: np.ndarray  # the margin trigger; inf: none
    alpha: np.ndarray  # USD
    beta: np.ndarray  # USD per unit of price ratio
    cost: np.ndarray  # market cost, USD at ratio 1
    fee: np.ndarray  # liquidation fee, USD at ratio 1
    notional: np.ndarray  # USD at ratio 1
    to_holder: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> Terms:
        """The positions at `index`, in that order."""
        return Terms(**{name: column[index] for name, column in vars(self).items()})


def close_out_terms(book: pa.Table, assets: Sequence[str]) -> Terms:
    """Terms of the priced positions of a book.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`; only rows with status ``ok`` are used.
    assets : sequence of str
        The drivers' assets; every priced position's asset must be among them.

    Returns
    -------
    Terms

    Raises
    ------
    DataError
        If a priced position's asset has no driver.
    """
    rows = np.flatnonzero(pc.equal(book["status"], "ok").to_numpy(zero_copy_only=False))
    priced = book.take(pa.array(rows))

    def column(name: str) -> np.ndarray:
        return priced[name].to_numpy(zero_copy_only=False).astype("f8")  # null becomes NaN

    names, codes = label_codes(priced["asset"])
    unknown = sorted(set(names) - set(assets))
    if unknown:
        raise DataError(f"no driver for asset {', '.join(unknown)}; mark its positions unpriced")
    position = {asset: i for i, asset in enumerate(assets)}
    asset = np.array([position[name] for name in names], "i4")[codes]

    direction = column("direction")
    inverse = priced["is_inverse"].to_numpy(zero_copy_only=False)
    equity, exposure, notional = (
        column(name) for name in ("equity_usd", "exposure_usd", "notional_usd")
    )
    cost = column("closing_fee_rate") * notional
    fee = column("liquidation_fee_rate") * notional
    margin = -direction * column("trigger")
    stop = -direction * column("stop_trigger")
    margin[np.isnan(margin)] = np.inf
    stop[np.isnan(stop)] = np.inf
    return Terms(
        row=rows,
        asset=asset,
        direction=direction.astype("i1"),
        is_inverse=inverse,
        equity=equity,
        exposure=exposure,
        first=np.minimum(stop, margin),
        margin=margin,
        alpha=equity - exposure - np.where(inverse, cost, 0.0),
        beta=exposure - np.where(inverse, 0.0, cost),
        cost=cost,
        fee=fee,
        notional=notional,
        to_holder=priced["leftover_to_holder"].to_numpy(zero_copy_only=False),
    )


def label_codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Distinct strings in sorted order, and each row's index among them."""
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    used, inverse = np.unique(encoded.indices.to_numpy(), return_inverse=True)
    present = [names[i] for i in used]
    order = sorted(range(len(present)), key=present.__getitem__)
    rank = np.empty(len(present), "i8")
    rank[order] = np.arange(len(present))
    return [present[i] for i in order], rank[inverse]


def make_cells(
    book: pa.Table, rows: np.ndarray, labels: Sequence[str], max_cells: int
) -> tuple[pa.Table, np.ndarray]:
    """Distinct combinations of roll-up labels and each position's cell.

    Returns
    -------
    cells : Table (cell,)
        One string column per label, sorted by the labels in their order.
    cell : ndarray (position,)

    Raises
    ------
    ConfigError
        If there are more than `max_cells`.
    """
    priced = book.select(list(labels)).take(pa.array(rows))
    parts = [label_codes(priced[label]) for label in labels]
    key = np.zeros(len(rows), "i8")
    for names, codes in parts:
        key = key * len(names) + codes
    distinct, cell = np.unique(key, return_inverse=True)
    if len(distinct) > max_cells:
        raise ConfigError(
            f"cells {list(labels)} give {len(distinct)} cells, above max_cells {max_cells}: "
            "drop a label or raise max_cells"
        )
    columns: dict[str, list[str]] = {}
    left = distinct
    for label, (names, _) in zip(reversed(labels), reversed(parts), strict=True):
        left, code = np.divmod(left, max(len(names), 1))
        columns[label] = [names[i] for i in code]
    table = pa.table({label: pa.array(columns[label], pa.string()) for label in labels})
    return table, cell.astype("i4")
