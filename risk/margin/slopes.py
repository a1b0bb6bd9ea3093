"""How fast each position's requirement changes with its own mark: what a folded payment misses."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from risk.margin.partial import read_step_rule


def requirement_slopes(book: pa.Table) -> np.ndarray:
    """Rate (position,) of the part of every requirement that rests on the mark.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.

    Returns
    -------
    ndarray (position,)
        Maintenance rate of the higher of the tiers at the mark and at the liquidation price, and
        the closing fee where the test includes it; 0 where the requirement rests on the entry
        value, and where nothing is required or known.

    Examples
    --------
    >>> rule = '{"tiers_per_step":0,"is_entry_basis":false,"trigger_fee_rate":0.0,'
    >>> rule += '"is_fee_at_bankruptcy":false,"is_strict":false,"floor":[0,900.0],'
    >>> rule += '"rate":[0.01,0.02],"amount":[0,9.0]}'
    >>> short = {"requirement": [rule], "notional": [850.0], "trigger": [1.1]}
    >>> requirement_slopes(pa.table(short | {"is_inverse": [False]})).tolist()
    [0.02]
    """
    encoded = book["requirement"].cast(pa.string()).combine_chunks().dictionary_encode()
    code = np.nan_to_num(encoded.indices.to_numpy(zero_copy_only=False), nan=-1.0).astype("i8")
    notional, trigger = (
        book[name].to_numpy(zero_copy_only=False).astype("f8") for name in ("notional", "trigger")
    )
    inverse = book["is_inverse"].to_numpy(zero_copy_only=False).astype(bool)
    ratio = np.where(trigger > 0, trigger, 1.0)
    value = notional * np.maximum(np.where(inverse, 1.0 / ratio, ratio), 1.0)
    found = np.zeros(book.num_rows)
    for place, text in enumerate(encoded.dictionary.to_pylist()):
        mine, rule = np.flatnonzero(code == place), read_step_rule(text)
        if not rule.is_entry_basis:
            tier = np.maximum(np.searchsorted(rule.floor, value[mine]) - 1, 0)
            found[mine] += np.array(rule.rate)[tier]
        if not rule.is_fee_at_bankruptcy:
            found[mine] += rule.trigger_fee_rate
    return found
