"""Who is behind the numbers, in every stress and in the worst sampled scenarios."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk import findings
from risk.liquidation.accounts import Holders, Losses, holder_losses
from risk.pipeline.gone_through import GoneThrough, gone_through
from risk.pipeline.night import Night
from risk.pipeline.waterfall import DeficitsSettled

_NAMES = ("scenario_set", "account", "venue")
_SCHEMA = pa.schema(
    [
        ("scenario_set", pa.string()), ("scenario", pa.int32()), ("account", pa.string()),
        ("venue", pa.string()), ("pnl_usd", pa.float64()), ("deficit_usd", pa.float64()),
        ("liquidations", pa.int64()),
    ]
)  # fmt: skip

#: Rows that are written together, and bytes of names that may come with them: once per group.
_TOGETHER, _DICTIONARY = 1 << 22, 1 << 27


def write_accounts(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `accounts.parquet`, `waterfall.parquet` and `deleveraged.parquet`.

    In a stress the accounts with a deficit and those that lose most, in the worst scenarios of the
    sampled sets the deficits alone; and who pays the deficits of both.
    """
    settled = DeficitsSettled(night.folder)
    with _open(night.folder / "accounts.parquet") as writer:
        for _, groups in itertools.groupby(gone_through(night, book), lambda one: one.scenario_set):
            _write_set(writer, groups, settled)
    settled.write()


def _open(path: Path) -> pq.ParquetWriter:
    kinds = {name: pa.dictionary(pa.int32(), pa.string()) for name in _NAMES}
    return pq.ParquetWriter(
        path,
        pa.schema([(one.name, kinds.get(one.name, one.type)) for one in _SCHEMA]),
        # Names are handed over in codes, and read as the text they are.
        store_schema=False,
        use_dictionary=[*_NAMES, "scenario", "liquidations"],
        compression={one.name: "none" if one.type == pa.float64() else "snappy" for one in _SCHEMA},
        dictionary_pagesize_limit=_DICTIONARY,
        write_statistics=["scenario_set", "scenario"],
    )


def _write_set(
    writer: pq.ParquetWriter, groups: Iterable[GoneThrough], settled: DeficitsSettled
) -> None:
    """Write the scenarios of one set by their numbers: stresses of another depth come later."""
    rows: list[tuple[np.ndarray, ...]] = []
    waiting: dict[int, tuple[np.ndarray, ...]] = {}
    written = 0
    for some in groups:
        holders = some.holders
        only_deficits = some.scenario_set != "stress"
        found = holder_losses(some.positions, holders, some.drivers, some.valued, some.pooled)
        for number, losses in zip(some.index.tolist(), found, strict=True):
            kept = losses.deficit > 0 if only_deficits else _in_trouble(losses, holders)
            waiting[number] = _columns(number, losses, holders, np.flatnonzero(kept))
            while written < len(some.among) and some.among[written] in waiting:
                rows.append(waiting.pop(int(some.among[written])))
                written += 1
            if sum(len(one[0]) for one in rows) >= _TOGETHER:
                _write(writer, some.scenario_set, holders, rows)
        settled.add(some)
    if rows:
        _write(writer, some.scenario_set, holders, rows)


def _in_trouble(losses: Losses, holders: Holders) -> np.ndarray:
    """Whose account has a deficit anywhere or is among those that lose most, at any venue."""
    n = len(holders.accounts)
    deficit, pnl = (np.bincount(holders.account, x, n) for x in (losses.deficit, losses.pnl))
    held = np.flatnonzero(np.bincount(holders.account, minlength=n))
    is_kept = deficit > 0
    left = (pnl - deficit)[held]
    last = min(findings.N_ACCOUNTS, len(held)) - 1
    if last >= 0:
        near = np.flatnonzero(left <= np.partition(left, last)[last])
        # As the report does: of accounts that lose the same, the first by name.
        is_kept[held[near[np.argsort(left[near], kind="stable")[: last + 1]]]] = True
    return is_kept[holders.account]


def _columns(
    number: int, losses: Losses, holders: Holders, which: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The columns of one scenario after its set, of some holders; account and venue as codes."""
    columns = (holders.account, holders.venue, *losses)
    kept = [column[which] for column in columns]
    return (np.full(len(kept[0]), number, "i4"), *(x.astype("i4") for x in kept[:2]), *kept[2:])


def _write(
    writer: pq.ParquetWriter, scenario_set: str, holders: Holders,
    rows: list[tuple[np.ndarray, ...]],
) -> None:  # fmt: skip
    """Write rows, which are none afterwards, as one group."""
    number, account, venue, *amounts = (np.concatenate(x) for x in zip(*rows, strict=True))
    rows.clear()
    if not len(number):
        return
    named = [
        pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))
        for codes, names in (
            (np.zeros(len(number), "i4"), [scenario_set]),
            (account, holders.accounts),
            (venue, holders.venues),
        )
    ]
    columns = [named[0], pa.array(number), *named[1:], *(pa.array(x) for x in amounts)]
    writer.write_table(pa.table(columns, schema=writer.schema), row_group_size=len(number))
