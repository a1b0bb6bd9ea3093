"""Snapshots: whatever goes in comes out once, or the load stops with one sentence."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.errors import ConfigError, DataError
from risk.schema import ACCOUNTS, CONTRACTS, POSITIONS, QUARANTINE, TIERS
from risk.snapshot import Snapshot, check_report, load_snapshot, resolve_snapshot
from risk.snapshot.tiers import check_tiers
from tests.makers import (
    AS_OF,
    contract,
    nullable,
    position,
    tier_table,
    write_snapshot,
    write_venues,
)

NAN, INF = float("nan"), float("inf")
FAR = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


def reasons(snapshot: Snapshot) -> dict[tuple[str, int], str]:
    rows = snapshot.quarantine.to_pylist()
    return {(row["file"], row["row"]): row["reason"] for row in rows}


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def recast(column: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        n = table.schema.get_field_index(column)
        values = pa.nulls(len(table)) if pa.types.is_null(kind) else table[column].cast(kind)
        return table.set_column(n, column, values)

    return change


# What comes out -------------------------------------------------------------


def test_a_valid_snapshot_comes_out_whole_and_sorted(tmp_path: Path) -> None:
    path = write_snapshot(
        tmp_path,
        [{"position_id": "b"}, {"position_id": "a", "symbol": "BTC/USD:BTC", "venue": "okx"}],
        source="by hand",
    )
    snapshot = load_snapshot(path)
    assert snapshot.as_of == AS_OF
    assert snapshot.positions["position_id"].to_pylist() == ["a", "b"]
    assert snapshot.positions.schema == POSITIONS
    assert snapshot.contracts.schema == CONTRACTS
    assert snapshot.tiers.schema == TIERS
    assert snapshot.quarantine.schema == QUARANTINE
    assert snapshot.quarantine.num_rows == snapshot.n_quarantined == 0
    assert snapshot.n_rows == 2
    assert snapshot.accounts is None
    assert list(snapshot.venues) == ["binance", "okx"]
    assert snapshot.is_synthetic
    assert snapshot.notes == ("positions: by hand", "contracts: by hand", "tiers: by hand")


def test_inputs_are_the_digests_of_every_file_read(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    names = ["contracts.parquet", "positions.parquet", "tiers.parquet", "venues/binance.yaml"]
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
    assert load_snapshot(path).inputs == digests


def test_real_data_is_not_called_synthetic(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, is_synthetic=False, source="")
    assert not load_snapshot(path).is_synthetic
    assert load_snapshot(path).notes == ()


def test_an_empty_book_loads(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [], [contract()])
    snapshot = load_snapshot(path)
    assert (snapshot.n_rows, snapshot.positions.num_rows, snapshot.venues) == (0, 0, {})
    assert check_report(snapshot).num_rows == 0


def test_parts_of_a_table_are_joined_and_rows_are_counted_within_their_file(
    tmp_path: Path,
) -> None:
    path = write_snapshot(tmp_path, [{"contracts": 1.0 if n % 2 else -1.0} for n in range(7)])
    table = pq.read_table(path / "positions.parquet")
    (path / "positions.parquet").unlink()
    (path / "positions").mkdir()
    pq.write_table(table.slice(0, 3), path / "positions" / "part-0.parquet", row_group_size=1)
    pq.write_table(table.slice(3, 4), path / "positions" / "part-1.parquet", row_group_size=2)
    pq.write_table(table.slice(0, 0), path / "positions" / "part-2.parquet")
    (path / "positions" / "_SUCCESS").touch()
    snapshot = load_snapshot(path)
    assert snapshot.n_rows == 7
    assert snapshot.positions.num_rows == 3
    assert list(reasons(snapshot)) == [
        ("positions/part-0.parquet", 0),
        ("positions/part-0.parquet", 2),
        ("positions/part-1.parquet", 1),
        ("positions/part-1.parquet", 3),
    ]
    assert {name for name in snapshot.inputs if name.startswith("positions")} == {
        f"positions/part-{n}.parquet" for n in range(3)
    }


@pytest.mark.parametrize(
    ("file", "column", "kind"),
    [
        ("positions", "side", pa.dictionary(pa.int8(), pa.string())),
        ("positions", "symbol", pa.dictionary(pa.int32(), pa.large_string())),
        ("positions", "position_id", pa.large_string()),
        ("positions", "venue", pa.string_view()),
        ("positions", "contracts", pa.int64()),
        ("positions", "entry_price", pa.uint32()),
        ("positions", "leverage", pa.float32()),
        ("positions", "stop_loss_price", pa.null()),
        ("contracts", "expiry", pa.timestamp("us", tz="UTC")),
        ("contracts", "mark_timestamp", pa.timestamp("ns", tz="+00:00")),
        ("contracts", "mark_timestamp", pa.timestamp("s", tz="Etc/UTC")),
        ("contracts", "strike", pa.null()),
        ("tiers", "tier", pa.int8()),
        ("tiers", "tier", pa.float64()),
        ("tiers", "min_notional", pa.int64()),
    ],
)
def test_other_spellings_of_a_type_mean_the_same(
    tmp_path: Path, file: str, column: str, kind: pa.DataType
) -> None:
    path = write_snapshot(tmp_path, [{}, {"symbol": "ETH/USDT:USDT-251226", "venue": "okx"}])
    plain = load_snapshot(path)
    edit(path / f"{file}.parquet", recast(column, kind))
    other = load_snapshot(path)
    for name in ("positions", "contracts", "tiers", "quarantine"):
        assert getattr(other, name).equals(getattr(plain, name))


def test_extra_columns_and_another_column_order_change_nothing(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    plain = load_snapshot(path)

    def change(table: pa.Table) -> pa.Table:
        table = table.append_column("file", pa.array(["mine"])).append_column("row", pa.array([9]))
        return table.select(table.column_names[::-1])

    edit(path / "positions.parquet", change)
    assert load_snapshot(path).positions.equals(plain.positions)


@pytest.mark.parametrize(
    "name", ["x" * 200, "\u202eabc\u200f", "a;b", "p\n1", "עברית", "'", "=1+1"]
)
def test_odd_ids_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    path = write_snapshot(tmp_path, [{"position_id": name, "account": name, "book": name}])
    assert load_snapshot(path).positions["position_id"].to_pylist() == [name]
    edit(path / "positions.parquet", lambda table: table.set_column(6, "contracts", [[-1.0]]))
    assert load_snapshot(path).quarantine["position_id"].to_pylist() == [name]


def test_accounts_are_read_where_they_are(tmp_path: Path) -> None:
    good = {
        "account": "a1",
        "venue": "okx",
        "currency": "BTC",
        "balance": -0.5,
        "haircut": 0.05,
    }
    other = {**good, "account": "a2"}
    bad = {**other, "currency": "ETH", "haircut": 2.0}
    snapshot = load_snapshot(write_snapshot(tmp_path, accounts=[bad, good, other]))
    assert snapshot.accounts is not None
    assert snapshot.accounts.schema == ACCOUNTS
    # A pool without one of its balances would be another pool: all of a2's are left out.
    assert snapshot.accounts.to_pylist() == [good]
    assert reasons(snapshot) == {
        ("accounts.parquet", 0): "haircut must be between 0 and 1, got 2.0",
    }
    assert snapshot.n_quarantined == 0


# Rows that are quarantined --------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("position_id", "", "position_id must not be empty, got "),
        ("position_id", None, "position_id must not be empty, got null"),
        ("account", " ", "account must not be empty, got  "),
        ("book", None, "book must not be empty, got null"),
        ("side", "LONG", "side must be long or short, got LONG"),
        ("side", None, "side must be long or short, got null"),
        ("margin_mode", "portfolio", "margin_mode must be isolated or cross, got portfolio"),
        ("contracts", None, "contracts must be a number above zero, got null"),
        ("contracts", NAN, "contracts must be a number above zero, got NaN"),
        ("contracts", INF, "contracts must be a number above zero, got inf"),
        ("contracts", -INF, "contracts must be a number above zero, got -inf"),
        ("contracts", 0.0, "contracts must be a number above zero, got 0.0"),
        ("contracts", 1e300, "contracts must lie between 1e-18 and 1e+18, got 1e+300"),
        ("entry_price", -5.0, "entry_price must be a number above zero, got -5.0"),
        ("entry_price", 1e-300, "entry_price must lie between 1e-18 and 1e+18, got 1e-300"),
        ("position_margin", -0.01, "position_margin must be a number not below zero, got -0.01"),
        ("position_margin", NAN, "position_margin must be a number not below zero, got NaN"),
        ("leverage", 0.0, "leverage must be a number above zero, got 0.0"),
        ("stop_loss_price", NAN, "stop_loss_price must be a number above zero, got NaN"),
        (
            "symbol",
            "BTC/USDC:USDC",
            "symbol names no contract of its venue, got binance BTC/USDC:USDC",
        ),
        ("symbol", None, "symbol must not be empty, got null"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason(
    tmp_path: Path, column: str, value: Any, reason: str
) -> None:
    rows = [position("p1"), position("p2") | {column: value}, position("p3")]
    path = write_snapshot(tmp_path, rows, [contract()])
    snapshot = load_snapshot(path)
    assert snapshot.positions["position_id"].to_pylist() == ["p1", "p3"]
    assert reasons(snapshot) == {("positions.parquet", 1): reason}
    given = value if column == "position_id" else "p2"
    assert snapshot.quarantine["position_id"].to_pylist() == [given or None]


@pytest.mark.parametrize("column", ["leverage", "stop_loss_price"])
def test_a_null_passes_where_a_column_may_be_null(tmp_path: Path, column: str) -> None:
    snapshot = load_snapshot(write_snapshot(tmp_path, [{column: None}]))
    assert snapshot.positions[column].to_pylist() == [None]


def test_no_margin_posted_is_a_valid_row(tmp_path: Path) -> None:
    snapshot = load_snapshot(write_snapshot(tmp_path, [{"position_margin": 0.0}]))
    assert snapshot.positions.num_rows == 1


def test_every_reason_of_a_row_is_given(tmp_path: Path) -> None:
    row = {"side": "both", "contracts": -1.0, "position_margin": 1.0}
    snapshot = load_snapshot(write_snapshot(tmp_path, [row]))
    (reason,) = reasons(snapshot).values()
    assert set(reason.split("; ")) == {
        "side must be long or short, got both",
        "contracts must be a number above zero, got -1.0",
    }


def test_a_hostile_value_cannot_forge_or_hide_a_reason(tmp_path: Path) -> None:
    row = {"side": "x; all is well\n\u202e" + "y" * 500}
    snapshot = load_snapshot(write_snapshot(tmp_path, [row]))
    (reason,) = reasons(snapshot).values()
    assert reason.startswith("side must be long or short, got x, all is well\ufffd\ufffdyyy")
    assert len(reason) < 110
    assert check_report(snapshot).to_pylist() == [
        {"reason": "side must be long or short", "n_rows": 1}
    ]


@pytest.mark.parametrize(
    ("symbol", "changes", "reason"),
    [
        ("BTC/USDT:USDT", {"contract_size": 0.0}, "contract_size must be a number above zero"),
        ("BTC/USDT:USDT", {"mark_price": NAN}, "mark_price must be a number above zero, got NaN"),
        ("BTC/USDT:USDT", {"type": "perp"}, "type must be swap, future or option, got perp"),
        ("BTC/USDT:USDT", {"linear": None}, "linear must be true or false, got null"),
        ("BTC/USDT:USDT", {"settle": ""}, "settle must not be empty"),
        ("BTC/USDT:USDT", {"funding_rate": INF}, "funding_rate must be between -1 and 1, got inf"),
        ("BTC/USDT:USDT", {"mark_timestamp": FAR}, "mark_timestamp must lie in the years 2000 to"),
        ("ETH/USD:ETH-251226", {"expiry": FAR}, "expiry must lie in the years 2000 to 2199, got"),
        ("BTC/USDT:USDT", {"type": "future"}, "a future or option needs an expiry"),
        ("BTC/USD:BTC-251226", {"type": "swap"}, "a swap has no expiry"),
        ("BTC/USD:BTC-251226-9000-C", {"strike": None}, "an option needs a strike"),
        ("BTC/USD:BTC-251226-9000-C", {"option_type": "C"}, "option_type must be call or put"),
    ],
)
def test_positions_on_a_bad_contract_name_no_contract(
    tmp_path: Path, symbol: str, changes: dict[str, Any], reason: str
) -> None:
    listed = [contract("SOL/USDT:USDT"), contract(symbol, **changes)]
    rows = [{"symbol": symbol}, {"symbol": "SOL/USDT:USDT"}]
    snapshot = load_snapshot(write_snapshot(tmp_path, rows, listed))
    found = reasons(snapshot)
    assert found[("contracts.parquet", 1)].startswith(reason)
    named = f"symbol names no contract of its venue, got binance {symbol}"
    assert found[("positions.parquet", 0)] == named
    assert snapshot.positions["position_id"].to_pylist() == ["p2"]
    assert snapshot.quarantine["position_id"].to_pylist() == [None, "p1"]
    assert (snapshot.n_rows, snapshot.n_quarantined) == (2, 1)


def test_a_swap_may_lack_a_strike_in_any_way_a_writer_says_so(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [{}], [contract(strike=NAN, mark_iv=NAN, option_type="")])
    terms = load_snapshot(path).contracts.to_pylist()[0]
    assert (terms["strike"], terms["mark_iv"], terms["option_type"]) == (None, None, None)


def test_a_contract_without_a_mark_is_kept(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [{}], [contract(mark_price=None, mark_timestamp=None)])
    assert load_snapshot(path).positions.num_rows == 1


def test_the_report_counts_rows_by_rule(tmp_path: Path) -> None:
    rows = [{"contracts": -1.0, "position_margin": 1.0}, {"contracts": NAN, "side": "x"}, {}]
    report = check_report(load_snapshot(write_snapshot(tmp_path, rows)))
    counts = {row["reason"]: row["n_rows"] for row in report.to_pylist()}
    assert counts["contracts must be a number above zero"] == 2
    assert counts["side must be long or short"] == 1


FAULTS: list[tuple[str, Any]] = [
    ("position_id", None),
    ("position_id", ""),
    ("venue", None),
    ("venue", "mtgox"),
    ("symbol", "nothing"),
    ("symbol", None),
    ("side", "up"),
    ("contracts", NAN),
    ("contracts", -1.0),
    ("entry_price", INF),
    ("entry_price", None),
    ("margin_mode", ""),
    ("position_margin", -1.0),
    ("leverage", -INF),
    ("stop_loss_price", 0.0),
]


@settings(max_examples=40, deadline=None)
@given(
    faults=st.lists(st.lists(st.sampled_from(FAULTS), max_size=3), max_size=12),
    n_parts=st.integers(1, 3),
)
def test_every_row_that_went_in_comes_out_once(
    faults: list[list[tuple[str, Any]]], n_parts: int
) -> None:
    rows = [position(f"p{n:02d}") | dict(changes) for n, changes in enumerate(faults)]
    with tempfile.TemporaryDirectory() as folder:
        path = write_snapshot(Path(folder), [], [contract()])
        (path / "positions.parquet").unlink()
        (path / "positions").mkdir()
        where = []
        for part in range(n_parts):
            own = rows[part::n_parts]
            table = pa.Table.from_pylist(own, schema=nullable(POSITIONS))
            pq.write_table(table, path / "positions" / f"{part}.parquet")
            where += [(f"positions/{part}.parquet", row) for row in range(len(own))]
        snapshot = load_snapshot(path)
        rows = [row for part in range(n_parts) for row in rows[part::n_parts]]
        changed = [each for part in range(n_parts) for each in faults[part::n_parts]]
    bad = {at for at, changes in zip(where, changed, strict=True) if changes}
    assert set(reasons(snapshot)) == bad
    assert snapshot.quarantine.num_rows == len(bad)
    good = [row for at, row in zip(where, rows, strict=True) if at not in bad]
    assert snapshot.positions.to_pylist() == sorted(good, key=lambda row: row["position_id"])
    assert snapshot.n_rows == len(rows) == snapshot.positions.num_rows + len(bad)


# Files that stop the load ---------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def blank(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("position_id,side\np1,long\n")


def scramble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)


def not_unicode(path: Path) -> None:
    table = pq.read_table(path)
    table = table.set_column(0, table.column_names[0], pa.array([b"\xff\xfe"] * table.num_rows))
    schema = table.schema.set(0, pa.field(table.column_names[0], pa.string()))
    columns = [table[0].combine_chunks().view(pa.string()), *table.columns[1:]]
    pq.write_table(pa.table(columns, schema=schema), path)


@pytest.mark.parametrize("damage", [truncate, blank, text, scramble, not_unicode])
@pytest.mark.parametrize("name", ["positions", "contracts", "tiers"])
def test_a_damaged_file_stops_the_load_by_name(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    path = write_snapshot(tmp_path)
    damage(path / f"{name}.parquet")
    with pytest.raises(DataError, match=rf"{name}\.parquet: truncated, damaged or not a Parquet"):
        load_snapshot(path)


def checksummed(path: Path) -> None:
    pq.write_table(pq.read_table(path), path, write_page_checksum=True, compression="none")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"isolated", b"isolatee"))


def test_a_page_that_does_not_match_its_checksum_stops_the_load(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    checksummed(path / "positions.parquet")
    with pytest.raises(DataError, match=r"positions\.parquet: truncated, damaged"):
        load_snapshot(path)


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_flipped_byte_is_refused_in_one_sentence_or_loses_no_row(at: float, byte: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_snapshot(Path(folder), [{}] * 20)
        content = bytearray((path / "positions.parquet").read_bytes())
        content[int(at * len(content))] = byte
        (path / "positions.parquet").write_bytes(content)
        try:
            snapshot, refusal = load_snapshot(path), ""
        except DataError as error:
            snapshot, refusal = None, str(error)
    assert "\n" not in refusal
    if snapshot is not None:
        assert snapshot.n_rows == snapshot.positions.num_rows + snapshot.quarantine.num_rows


@pytest.mark.parametrize("name", ["positions", "contracts", "tiers"])
def test_a_missing_file_stops_the_load_by_name(tmp_path: Path, name: str) -> None:
    path = write_snapshot(tmp_path)
    (path / f"{name}.parquet").unlink()
    with pytest.raises(DataError, match=rf"{name}\.parquet: missing"):
        load_snapshot(path)
    (path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name}\.parquet: missing"):
        load_snapshot(path)


def test_a_table_in_two_places_stops_the_load(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    (path / "positions").mkdir()
    with pytest.raises(DataError, match=r"has both positions\.parquet and positions/"):
        load_snapshot(path)


@pytest.mark.parametrize(
    ("name", "column"),
    [("positions", field.name) for field in POSITIONS if not field.nullable]
    + [("contracts", "linear"), ("contracts", "mark_price"), ("tiers", "maintenance_amount")],
)
def test_a_missing_column_stops_the_load_by_name(tmp_path: Path, name: str, column: str) -> None:
    path = write_snapshot(tmp_path)
    edit(path / f"{name}.parquet", lambda table: table.drop_columns([column]))
    with pytest.raises(DataError, match=rf"{name}\.parquet: missing column {column}"):
        load_snapshot(path)


def test_a_column_that_may_be_null_may_be_left_out(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    edit(path / "positions.parquet", lambda t: t.drop_columns(["leverage", "stop_loss_price"]))
    edit(path / "contracts.parquet", lambda t: t.drop_columns(["expiry", "index_price"]))
    snapshot = load_snapshot(path)
    assert snapshot.positions["leverage"].null_count == snapshot.n_rows
    assert snapshot.contracts["expiry"].null_count == snapshot.contracts.num_rows


def test_a_column_given_twice_stops_the_load(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    edit(path / "positions.parquet", lambda t: t.append_column("side", t["side"]))
    with pytest.raises(DataError, match="column side appears more than once"):
        load_snapshot(path)


@pytest.mark.parametrize(
    ("name", "column", "kind", "expected"),
    [
        ("positions", "contracts", pa.string(), "must be a number"),
        ("positions", "contracts", pa.decimal128(20, 2), "must be a number"),
        ("positions", "position_id", pa.binary(), "must be text"),
        ("positions", "entry_price", pa.bool_(), "must be a number"),
        ("contracts", "mark_timestamp", pa.timestamp("ms"), "a timestamp with zone UTC"),
        ("contracts", "mark_timestamp", pa.timestamp("ms", tz="Asia/Tokyo"), "with zone UTC"),
        ("contracts", "mark_timestamp", pa.int64(), "a timestamp with zone UTC"),
        ("contracts", "linear", pa.int8(), "must be true or false"),
        ("tiers", "tier", pa.string(), "must be a whole number"),
        ("tiers", "max_leverage", pa.string(), "must be a number"),
    ],
)
def test_a_column_of_another_type_stops_the_load(
    tmp_path: Path, name: str, column: str, kind: pa.DataType, expected: str
) -> None:
    path = write_snapshot(tmp_path)
    edit(path / f"{name}.parquet", recast(column, kind))
    with pytest.raises(DataError, match=rf"{name}\.parquet: column {column} is .*{expected}"):
        load_snapshot(path)


def test_a_fraction_for_a_tier_number_names_its_row(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    edit(
        path / "tiers.parquet",
        lambda t: t.set_column(2, "tier", pc.add(t["tier"].cast("double"), [0, 0, 0.5, 0, 0])),
    )
    with pytest.raises(DataError, match=r"row 2: column tier holds 3\.5, which is no int64"):
        load_snapshot(path)


@pytest.mark.parametrize("is_bad", [False, True])
def test_a_repeated_id_stops_the_load_with_both_rows(tmp_path: Path, is_bad: bool) -> None:
    rows = [{"position_id": name} for name in "abcb"]
    if is_bad:
        rows[3]["side"] = "quarantined anyway"
    path = write_snapshot(tmp_path, rows)
    message = r"'b' appears in positions\.parquet row 1 and in positions\.parquet row 3"
    with pytest.raises(DataError, match=message):
        load_snapshot(path)


def test_a_repeated_id_is_found_across_parts(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [{}, {}])
    (path / "positions").mkdir()
    shutil.copy(path / "positions.parquet", path / "positions" / "a.parquet")
    shutil.move(path / "positions.parquet", path / "positions" / "b.parquet")
    message = r"'p1' appears in positions/a\.parquet row 0 and in positions/b\.parquet row 0"
    with pytest.raises(DataError, match=message):
        load_snapshot(path)


def test_rows_without_an_id_are_not_repeats_of_each_other(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [{"position_id": None}] * 2 + [{"position_id": ""}] * 2)
    assert load_snapshot(path).n_quarantined == 4


def test_a_repeated_contract_stops_the_load(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [{}], [contract(), contract(contract_size=2.0)], tier_table())
    with pytest.raises(DataError, match=r"'binance BTC/USDT:USDT' appears in contracts.* row 0"):
        load_snapshot(path)


def test_a_repeated_balance_stops_the_load(tmp_path: Path) -> None:
    row = {"account": "a", "venue": "okx", "currency": "BTC", "balance": 1.0, "haircut": 0.0}
    path = write_snapshot(tmp_path, accounts=[row, row])
    with pytest.raises(DataError, match="'a okx BTC' appears in accounts"):
        load_snapshot(path)


def test_a_venue_that_holds_a_position_needs_rules(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [{"venue": "okx"}], venues={})
    with pytest.raises(ConfigError, match="'okx' has no rules"):
        load_snapshot(path)
    folder = write_venues(tmp_path / "rules", {"okx": {}})
    assert list(load_snapshot(path, venue_folders=[folder]).venues) == ["okx"]


# Tiers ----------------------------------------------------------------------


def changed_tiers(row: int, **changes: Any) -> list[dict[str, Any]]:
    rows = tier_table()
    rows[row] |= changes
    return rows


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (0, {"min_notional": 1.0}, "tier 1 leaves a gap: it starts at 1 but should start at 0"),
        (2, {"min_notional": 600_001.0}, "tier 3 leaves a gap: it starts at 600001"),
        (1, {"max_notional": 700_000.0}, "tier 3 overlaps: it starts at 600000 .* at 700000"),
        (1, {"max_notional": 50_000.0}, "tier 2 ends at 50000 but starts at 50000"),
        (3, {"tier": 3}, "tier 3 should be tier 4; number the tiers"),
        (0, {"tier": 0}, "tier 0 should be tier 1"),
        (4, {"maintenance_margin_rate": 0.02}, "tier 5 has rate 0.02, below 0.025"),
        (2, {"maintenance_amount": 3_049.0}, "tier 3 has maintenance_amount 3049 but 3050"),
        (3, {"maintenance_amount": 153_051.0}, "tier 4 has maintenance_amount 153051 but 153050"),
        (0, {"maintenance_amount": 1.0}, "tier 1 has maintenance_amount 1 but 0"),
        (1, {"maintenance_margin_rate": 1.0}, "tier 2 needs a maintenance rate below 1"),
        (1, {"max_leverage": 0.0}, "tier 2 needs .* a leverage above 0"),
        (1, {"min_notional": NAN}, "tier 2 has a number that is negative or not finite"),
        (1, {"max_notional": NAN}, "tier 2 has a number that is negative or not finite"),
        (1, {"maintenance_amount": -50.0}, "tier 2 has a number that is negative"),
        (1, {"maintenance_margin_rate": None}, "tier 2 has a null"),
        (1, {"max_notional": None}, "tier 3 overlaps: .* at inf"),
    ],
)
def test_a_broken_tier_table_names_its_symbol_and_tier(
    tmp_path: Path, row: int, changes: dict[str, Any], message: str
) -> None:
    path = write_snapshot(tmp_path, tiers=changed_tiers(row, **changes))
    with pytest.raises(
        DataError, match=rf"tiers\.parquet: row \d: binance BTC/USDT:USDT {message}"
    ):
        load_snapshot(path)


def test_tiers_may_come_in_any_order_and_end_open(tmp_path: Path) -> None:
    rows = changed_tiers(4, max_notional=None)
    snapshot = load_snapshot(write_snapshot(tmp_path, tiers=rows[::-1]))
    assert snapshot.tiers["tier"].to_pylist() == [1, 2, 3, 4, 5]
    assert snapshot.tiers["max_notional"].to_pylist()[-1] == INF


def test_a_deduction_rounded_to_a_cent_or_to_single_precision_passes(tmp_path: Path) -> None:
    steps = ((0.0, 0.0041, 100.0), (33.3, 0.0053, 50.0), (77_777.7, 0.0107, 20.0))
    rows = tier_table(steps=steps, cap=1e7)
    cents = [row | {"maintenance_amount": round(row["maintenance_amount"], 2)} for row in rows]
    assert cents != rows
    load_snapshot(write_snapshot(tmp_path / "cents", tiers=cents))
    single = tier_table("BTC/USD:BTC")
    for row in single:
        row["maintenance_amount"] = float(np.float32(row["maintenance_amount"]))
    load_snapshot(write_snapshot(tmp_path / "single", [{"symbol": "BTC/USD:BTC"}], tiers=single))


def test_a_deduction_in_coin_gets_no_cent_of_slack(tmp_path: Path) -> None:
    rows = tier_table("BTC/USD:BTC")
    rows[1]["maintenance_amount"] += 1e-5
    path = write_snapshot(tmp_path, [{"symbol": "BTC/USD:BTC"}], tiers=rows)
    with pytest.raises(DataError, match="BTC/USD:BTC tier 2 has maintenance_amount"):
        load_snapshot(path)


def test_published_tier_tables_pass(market_data: Path) -> None:
    published = pl.read_parquet(market_data / "leverage_tiers_binance.parquet")
    for _, table in published.group_by("as_of", maintain_order=True):
        rows = table.with_columns(
            venue=pl.lit("binance"), file=pl.lit("tiers.parquet"), row=pl.int_range(pl.len())
        )
        assert check_tiers(rows).height == table.height > 1_000


# Which snapshot -------------------------------------------------------------


def test_a_snapshot_is_found_by_folder_or_date(tmp_path: Path) -> None:
    days = [dt.date(2025, 6, 28), AS_OF]
    older, newer = (write_snapshot(tmp_path / "snapshots", as_of=day) for day in days)
    (tmp_path / "snapshots" / "as_of=soon").mkdir()
    (tmp_path / "snapshots" / "as_of=20990101").mkdir()
    for folder in (tmp_path, tmp_path / "snapshots"):
        assert resolve_snapshot(folder) == newer
        assert resolve_snapshot(folder, days[0]) == older
    assert resolve_snapshot(older) == resolve_snapshot(older, days[0]) == older
    assert load_snapshot(tmp_path, as_of=days[0]).as_of == days[0]


def test_a_date_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path)
    with pytest.raises(ConfigError, match="no snapshot of 2020-01-01; there are 1"):
        resolve_snapshot(tmp_path, dt.date(2020, 1, 1))
    with pytest.raises(ConfigError, match="is of 2025-06-29, not of 2020-01-01"):
        resolve_snapshot(path, dt.date(2020, 1, 1))
    with pytest.raises(ConfigError, match="holds no snapshot"):
        resolve_snapshot(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no such folder"):
        resolve_snapshot(tmp_path / "as_of=2020-01-01")
