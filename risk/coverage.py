"""Coverage: every row that came in, once, priced or with a status and a reason.

A number without its coverage is a claim about an unknown share of the book.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.errors import DataError
from risk.margin.pooling import read_holdings, rows_apart
from risk.schema import COVERAGE, METHODS, USD_EQUIVALENTS

#: Rows of the coverage table: statuses add up to `in`; the last two are flags on priced rows.
ROWS = ("in", "priced", "unpriced", "liquidatable", "quarantined", "excluded", "stale", "proxied")


def mark_unpriced(book: pa.Table, assets: Collection[str]) -> pa.Table:
    """Give priced rows whose asset has no driver the status ``unpriced`` and a reason.

    With one of its positions, or a coin among its balances, a whole cross-margin pool is given up.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : collection of str
        Assets with a price history on the as-of date.
    """
    known = pc.is_in(book["asset"].cast(pa.string()), pa.array(sorted(assets), pa.string()))
    lost = pc.and_(pc.equal(book["status"], "ok"), pc.invert(known))
    if pc.any(lost).as_py():
        missing = pc.binary_join_element_wise(_NO_HISTORY, book["asset"].cast(pa.string()), " ")
        book = _give_up(book, lost, missing)
    return _lose_pools(book, set(assets))


_NO_HISTORY = "no price history on the as-of date for"


def _lose_pools(book: pa.Table, assets: set[str]) -> pa.Table:
    """Give up every pool that holds a position or a coin without a driver."""
    rows = np.flatnonzero(book["pool_holdings"].is_valid().to_numpy(zero_copy_only=False))
    if not len(rows):
        return book
    names = ("account", "venue", "status", "pool_holdings")
    part = book.select(names).take(pa.array(rows)).to_pylist()
    coins: dict[str, str | None] = {}
    reason: dict[tuple[str, str], str] = {}
    for row in part:
        owner, text = (row["account"], row["venue"]), row["pool_holdings"]
        if text not in coins:
            held = {one.asset for one in read_holdings(text) if one.asset is not None}
            coins[text] = min(held - assets, default=None)
        if coins[text] is not None:
            reason[owner] = f"cross margin with a balance in {coins[text]}: {_NO_HISTORY} it"
        elif row["status"] == "unpriced":
            reason.setdefault(owner, "another position of its cross-margin pool is not priced")
    found = [
        reason.get((row["account"], row["venue"])) if row["status"] == "ok" else None
        for row in part
    ]
    texts = np.full(book.num_rows, None, object)
    texts[rows] = found
    why = pa.array(texts, pa.string())
    return _give_up(book, why.is_valid(), why) if why.null_count < len(why) else book


def _give_up(book: pa.Table, lost: pa.Array, reason: pa.Array) -> pa.Table:
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
    is_option = pc.equal(contracts["type"], "option")
    # Inverse swaps and futures are counted in dollars; every option in coins.
    terms = {
        "size": contracts["contract_size"],
        "price": pc.if_else(is_option, contracts["index_price"], contracts["mark_price"]),
        "by_price": pc.or_(contracts["linear"], is_option),
        "usd": pc.is_in(contracts["quote"], pa.array(sorted(USD_EQUIVALENTS))),
    }
    ids = positions["position_id"].combine_chunks()
    if not pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        positions = positions.sort_by("position_id")
    row = _contract_rows(positions, contracts)
    size, price, by_price, usd = (pc.take(column, row) for column in terms.values())
    size = pc.multiply(positions["contracts"], size)
    amount = pc.if_else(by_price, pc.multiply(size, price), size)
    return pc.if_else(usd, amount, None).combine_chunks()


def _contract_rows(positions: pa.Table, contracts: pa.Table) -> pa.Array:
    """Row of every position's contract, null where it is not listed."""
    pairs = zip(contracts["venue"].to_pylist(), contracts["symbol"].to_pylist(), strict=True)
    listed = {pair: row for row, pair in enumerate(pairs)}
    venue, symbol = (
        positions[name].combine_chunks().dictionary_encode() for name in ("venue", "symbol")
    )
    # By pairs that occur, not position by position.
    venues, symbols = venue.dictionary.to_pylist(), symbol.dictionary.to_pylist()
    rows = np.array([[listed.get((one, other), -1) for other in symbols] for one in venues], "i8")
    if not rows.size:
        return pa.array([], pa.int64())
    row = rows[venue.indices.to_numpy(), symbol.indices.to_numpy()]
    return pa.array(row, mask=row < 0)


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
    status = book["status"]
    notional = book["gross_notional_usd"].to_numpy(zero_copy_only=False)
    by_proxy = pc.is_in(book["asset"].cast(pa.string()), pa.array(sorted(proxied), pa.string()))
    priced = pc.equal(status, "ok").to_numpy()
    members = {
        "priced": priced,
        **{
            name: pc.equal(status, name).to_numpy()
            for name in ("unpriced", "liquidatable", "excluded")
        },
        "stale": priced & book["is_stale"].to_numpy(),
        "proxied": priced & by_proxy.to_numpy(),
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


def methods(book: pa.Table, in_steps: np.ndarray) -> pa.Table:
    """Count the priced positions by how they are evaluated.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK` with `gross_notional_usd`.
    in_steps : ndarray of int
        Rows of the positions that liquidations cut in steps.

    Returns
    -------
    Table
        `risk.schema.METHODS`, one row each: ``ladder`` (one rung, looked up), ``steps`` (several
        rungs, lived again where a gap hits them), ``options`` (valued per contract and step),
        ``pools`` (cross margin, the kernel of last resort) and ``apart`` (isolated, the same kernel
        because their funding is too large to fold).
    """
    priced = pc.equal(book["status"], "ok").to_numpy(zero_copy_only=False)
    notional = np.nan_to_num(book["gross_notional_usd"].to_numpy(zero_copy_only=False))
    steps = np.zeros(len(priced), bool)
    steps[in_steps] = True
    kinds = {
        name: priced & book[column].is_valid().to_numpy(zero_copy_only=False)
        for name, column in (("options", "option_terms"), ("pools", "pool_holdings"))
    }
    kinds["apart"] = np.zeros(len(priced), bool)
    kinds["apart"][rows_apart(book)] = True
    kinds = {
        "ladder": priced & ~steps & ~np.any(list(kinds.values()), axis=0),
        "steps": steps,
    } | kinds
    n, known = int(priced.sum()), float(notional[priced].sum())
    rows = [
        {
            "method": name,
            "n_positions": int(mine.sum()),
            "notional_usd": float(notional[mine].sum()),
            "share": int(mine.sum()) / n if n else 0.0,
            "notional_share": float(notional[mine].sum()) / known if known else None,
        }
        for name, mine in kinds.items()
    ]
    return pa.Table.from_pylist(rows, schema=METHODS)


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
