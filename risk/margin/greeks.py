"""Delta, gamma and vega of a book's options, in US dollars."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.contracts.options import option_greeks
from risk.margin.options import read_option_terms

GREEKS = pa.schema(
    [
        ("asset", pa.string()), ("book", pa.string()), ("side", pa.string()),
        ("n_positions", pa.int64()), ("notional_usd", pa.float64()), ("value_usd", pa.float64()),
        ("delta_usd", pa.float64()), ("gamma_usd", pa.float64()), ("vega_usd", pa.float64()),
    ]
)  # fmt: skip


def book_greeks(book: pa.Table) -> pa.Table:
    """Sensitivities of the priced options of a book, added up by asset, book and side.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`; only options with status ``ok``.

    Returns
    -------
    Table
        `asset`, `book`, `side`, `n_positions`; `notional_usd`, the underlying at the index;
        `value_usd`, the options at their marks; `delta_usd`, US dollars gained per unit of relative
        move of the index (a tenth of it for 10 %); `gamma_usd`, by how much `delta_usd` grows when
        the index rises by 1 %; `vega_usd`, US dollars gained when the implied volatility rises by
        0.01. A written option counts with its sign: value, delta, gamma and vega are the holder's,
        without the collateral behind it. Sorted by asset, book and side.
    """
    is_priced = pc.and_(pc.equal(book["status"], "ok"), book["option_terms"].is_valid())
    held = book.filter(is_priced)
    columns = {
        name: held[name].cast(pa.string()) for name in ("asset", "book", "side", "option_terms")
    }
    texts = columns.pop("option_terms").to_pylist()
    known = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    terms = [read_option_terms(text) for text in known]
    place = np.array([known[text] for text in texts], np.int64)

    def of(name: str, kind: type = float) -> np.ndarray:
        return np.array([getattr(one, name) for one in terms], kind)[place]

    index, is_inverse = of("index_price"), of("is_inverse", bool)
    greeks = option_greeks(
        index,
        of("forward"),
        of("strike"),
        of("years"),
        of("volatility"),
        of("is_call", bool),
        is_inverse,
    )
    units = held["option_units"].to_numpy(zero_copy_only=False)
    signed = held["direction"].to_numpy(zero_copy_only=False) * units
    columns |= {
        "n_positions": pa.array(np.ones(len(units), "i8")),
        "notional_usd": pa.array(units * index),
        "value_usd": pa.array(signed * of("mark") * np.where(is_inverse, index, 1.0)),
        "delta_usd": pa.array(signed * greeks.delta * index),
        "gamma_usd": pa.array(signed * greeks.gamma * index**2 * 0.01),
        "vega_usd": pa.array(signed * greeks.vega * 0.01),
    }
    amounts = [name for name in GREEKS.names if name not in ("asset", "book", "side")]
    keys = ["asset", "book", "side"]
    total = (
        pa.table(columns)
        .group_by(keys, use_threads=False)
        .aggregate([(name, "sum") for name in amounts])
        .sort_by([(key, "ascending") for key in keys])
    )
    return pa.table(
        [*(total[key] for key in keys), *(total[f"{name}_sum"] for name in amounts)], schema=GREEKS
    )
