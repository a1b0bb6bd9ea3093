"""Coverage: every row that came in, once, priced or with a status and a reason.

A number without its coverage is a claim about an unknown share of the book.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.errors import DataError
from risk.schema import COVERAGE, USD_EQUIVALENTS

#: Rows of the coverage table: statuses add up to `in`; the last two are flags on priced rows.
ROWS = ("in", "priced", "unpriced", "liquidatable", "quarantined", "excluded", "stale", "proxied")


def mark_unpriced(book: pa.Table, assets: Collection[str]) -> pa.Table:
    """Give priced rows whose asset has no driver the status ``unpriced`` and a reason.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : collection of str
        Assets with a price history on the as-of date.
    """
    known = pc.is_in(book["asset"].cast(pa.string()), pa.array(sorted(assets), pa.string()))
    lost = pc.and_(pc.equal(book["status"], "ok"), pc.invert(known))
    if not pc.any(lost).as_py():
        return book
    reason = pc.binary_join_element_wise(
        "no price history on the as-of date for", book["asset"].cast(pa.string()), " "
    )
    for name, value in (("status", pa.scalar("unpriced")), ("reason", reason)):
        index = book.schema.get_field_index(name)
        column = pc.if_else(lost, value, book[name])
        book = book.set_column(index, book.schema.field(index), column)
    return book


def gross_notional(positions: pa.Table, contracts: pa.Table) -> pa.Array:
    """Notional of every valid position, USD at the mark, priced or not.

    Parameters
    ----------
    positions, contracts : Table
        Schemas `POSITIONS` and `CONTRACTS`.

    Returns
    -------
    Array (position,)
        Contracts times size (times the mark if linear, the index for options); null without a
        price or in a currency that is not worth one dollar.
    """
    terms = contracts.select(
        ["venue", "symbol", "type", "linear", "contract_size", "mark_price", "index_price", "quote"]
    )
    held = positions.select(["position_id", "venue", "symbol", "contracts"])
    joined = held.join(terms, ["venue", "symbol"], join_type="left outer").sort_by("position_id")
    price = pc.if_else(
        pc.equal(joined["type"], "option"), joined["index_price"], joined["mark_price"]
    )
    usd = pc.is_in(joined["quote"], pa.array(sorted(USD_EQUIVALENTS)))
    # Inverse swaps and futures are counted in dollars; every option in coins.
    by_price = pc.or_(joined["linear"], pc.equal(joined["type"], "option"))
    size = pc.multiply(joined["contracts"], joined["contract_size"])
    amount = pc.if_else(by_price, pc.multiply(size, price), size)
    return pc.if_else(usd, amount, None).combine_chunks()


def coverage(
    book: pa.Table, quarantine: pa.Table, n_rows: int, proxied: Collection[str] = ()
) -> pa.Table:
    """Count every position that came in, by status and by flag.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK` with `gross_notional_usd`: every valid row.
    quarantine : Table
        `risk.schema.QUARANTINE`; only rows of the positions files count here.
    n_rows : int
        Position rows that came in.
    proxied : collection of str
        Assets with some scenarios taken from a proxy.

    Returns
    -------
    Table
        `risk.schema.COVERAGE`, one row per entry of `ROWS`. Shares of notional are of the notional
        that is known: a quarantined row has none.

    Raises
    ------
    DataError
        If the statuses do not add up to the rows that came in.
    """
    status = np.asarray(book["status"].to_pylist(), object)
    notional = book["gross_notional_usd"].to_numpy(zero_copy_only=False)
    asset = book["asset"].cast(pa.string()).to_numpy(zero_copy_only=False)
    priced = status == "ok"
    members = {
        "priced": priced,
        **{name: status == name for name in ("unpriced", "liquidatable", "excluded")},
        "stale": priced & book["is_stale"].to_numpy(zero_copy_only=False),
        "proxied": priced & np.isin(asset, sorted(proxied)),
    }
    n_bad = pc.sum(pc.starts_with(quarantine["file"], "positions")).as_py() or 0
    if book.num_rows + n_bad != n_rows:
        raise DataError(
            f"{n_rows} position rows came in, but {book.num_rows} are valid and {n_bad} quarantined"
        )
    known = float(np.nansum(notional))
    # A row that breaks a rule has no notional to count; where no row does, none is missing.
    lost = None if n_bad else 0.0
    rows = []
    for name in ROWS:
        amount: float | None
        if name == "in":
            count, amount = n_rows, known
        elif name == "quarantined":
            count, amount = n_bad, lost
        else:
            count = int(members[name].sum())
            amount = float(np.nansum(notional[members[name]]))
        rows.append(
            {
                "status": name,
                "n_positions": count,
                "notional_usd": amount,
                "share": count / n_rows if n_rows else 0.0,
                "notional_share": amount / known if known and amount is not None else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=COVERAGE)


def reasons(book: pa.Table, quarantine: pa.Table) -> pa.Table:
    """Why rows are not priced.

    Returns
    -------
    Table
        `status`, `reason`, `n_positions`, `notional_usd` (null where unknown), largest count first.
    """
    lost = book.filter(pc.not_equal(book["status"], "ok")).select(
        ["status", "reason", "gross_notional_usd"]
    )
    lost = lost.rename_columns(["status", "reason", "notional_usd"])
    bad = quarantine.filter(pc.starts_with(quarantine["file"], "positions"))
    rows = pa.concat_tables(
        [
            lost,
            pa.table(
                {
                    "status": pa.array(["quarantined"] * bad.num_rows, pa.string()),
                    "reason": bad["reason"],
                    "notional_usd": pa.nulls(bad.num_rows, pa.float64()),
                }
            ),
        ],
        promote_options="permissive",
    )
    grouped = rows.group_by(["status", "reason"], use_threads=False).aggregate(
        [("reason", "count", pc.CountOptions(mode="all")), ("notional_usd", "sum")]
    )
    return (
        grouped.select(["status", "reason", "reason_count", "notional_usd_sum"])
        .rename_columns(["status", "reason", "n_positions", "notional_usd"])
        .sort_by([("n_positions", "descending"), ("status", "ascending"), ("reason", "ascending")])
    )
