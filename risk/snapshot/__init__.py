"""Load a snapshot: read its Parquet files, stop at a bad file, quarantine bad rows with a reason.

Every position row that came in comes out once, in `Snapshot.positions` or in
`Snapshot.quarantine`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from risk.errors import ConfigError, DataError
from risk.margin.venues import VenueRules, find_venue_file, load_venue_rules
from risk.schema import ACCOUNTS, CONTRACTS, POSITIONS, QUARANTINE, TIERS, conform
from risk.snapshot.read import Part, has_table, read_parts
from risk.snapshot.rules import (
    AccountRules,
    ContractRules,
    PositionRules,
    kinds_of_reasons,
    sort_out,
)
from risk.snapshot.tiers import check_tiers

_PREFIX = "as_of="


@dataclass(frozen=True)
class Snapshot:
    """One book on one day, checked.

    Attributes
    ----------
    as_of : date
        Day whose close the marks are.
    path : Path
        The folder it was read from.
    positions, contracts, tiers : Table
        Rows that keep every rule, with the schemas of `risk.schema`; positions sorted by
        `position_id`, contracts by (venue, symbol), tiers by (venue, symbol, tier).
    accounts : Table or None
        Pooled collateral for cross margin, where the snapshot has it: of every account at a venue
        all balances or none, since a pool without one of them would be another pool.
    venues : dict of str to VenueRules
        Rules in force of every venue that holds a position.
    quarantine : Table
        `file, row, position_id, reason` of every row left out, contracts and accounts included
        (their `position_id` is null).
    n_rows : int
        Position rows that came in.
    inputs : dict of str to str
        SHA-256 of every file read, by its name inside the snapshot.
    is_synthetic : bool
        Whether any file says that it was generated.
    notes : tuple of str
        What the files say of their source, as ``table: source``.
    """

    as_of: dt.date
    path: Path
    positions: pa.Table
    contracts: pa.Table
    tiers: pa.Table
    accounts: pa.Table | None
    venues: dict[str, VenueRules]
    quarantine: pa.Table
    n_rows: int
    inputs: dict[str, str]
    is_synthetic: bool
    notes: tuple[str, ...]

    @property
    def n_quarantined(self) -> int:
        """Position rows that were left out."""
        return self.n_rows - self.positions.num_rows


def resolve_snapshot(folder: Path, as_of: dt.date | None = None) -> Path:
    """Find the ``as_of=<date>`` folder: the one given, or one inside it or its ``snapshots/``.

    Parameters
    ----------
    folder : Path
        A snapshot, the folder of snapshots, or a folder that holds ``snapshots/``.
    as_of : date, optional
        Date wanted; the latest when absent.

    Raises
    ------
    ConfigError
        If there is none of that date, or none at all.
    """
    folder = Path(folder)
    for path in (folder, folder.resolve()):
        named = _date_of(path)
        if named is None:
            continue
        if not path.is_dir():
            raise ConfigError(f"{folder}: no such folder; give the folder of a snapshot")
        if as_of not in (None, named):
            raise ConfigError(f"{folder}: is of {named}, not of {as_of}; give the folder above it")
        return path
    dated: dict[dt.date, Path] = {}
    for parent in (folder, folder / "snapshots"):
        found = sorted(parent.glob(f"{_PREFIX}*"))
        dated = {day: path for path in found if (day := _date_of(path)) and path.is_dir()}
        if dated:
            break
    if not dated:
        raise ConfigError(f"{folder}: holds no snapshot; name its folder {_PREFIX}YYYY-MM-DD")
    day = max(dated) if as_of is None else as_of
    if day not in dated:
        raise ConfigError(
            f"{folder}: no snapshot of {day}; there are {len(dated)}, "
            f"from {min(dated)} to {max(dated)}"
        )
    return dated[day]


def load_snapshot(
    folder: Path, *, as_of: dt.date | None = None, venue_folders: Sequence[Path] = ()
) -> Snapshot:
    """Read and check a snapshot.

    Parameters
    ----------
    folder : Path
        A snapshot, or a folder above it (see `resolve_snapshot`).
    as_of : date, optional
        Date wanted; the latest when absent.
    venue_folders : sequence of Path
        Searched for venue rules after the snapshot's own ``venues/``.

    Returns
    -------
    Snapshot
        The number of its positions and of their quarantined rows add up to `n_rows`.

    Raises
    ------
    ConfigError
        If the snapshot is not there, or a venue that holds a position has no rules.
    DataError
        If a file is missing, damaged or ill-typed, an id or a contract appears twice, or a tier
        table is not continuous.
    """
    path = resolve_snapshot(folder, as_of)
    day = _date_of(path)
    assert day is not None
    positions = read_parts(path, "positions", POSITIONS)
    contracts = read_parts(path, "contracts", CONTRACTS)
    tiers = read_parts(path, "tiers", TIERS)
    accounts = read_parts(path, "accounts", ACCOUNTS) if has_table(path, "accounts") else []
    parts = {"positions": positions, "contracts": contracts, "tiers": tiers, "accounts": accounts}

    book = _join(positions)
    _refuse_repeats(path, book, ["position_id"])
    listed = _without_option_terms(_join(contracts))
    _refuse_repeats(path, listed, ["venue", "symbol"])
    good_tiers = check_tiers(_join(tiers))
    good_contracts, bad_contracts = sort_out(listed, ContractRules)
    good_positions, bad_positions = sort_out(_flag_listed(book, good_contracts), PositionRules)
    left_out = [bad_positions, bad_contracts]
    good_accounts = None
    if accounts:
        balances = _join(accounts)
        _refuse_repeats(path, balances, ["account", "venue", "currency"])
        good_accounts, bad_accounts = sort_out(balances, AccountRules)
        good_accounts = _without_owners(good_accounts, balances, bad_accounts)
        left_out.append(bad_accounts)

    folders = [path / "venues", *venue_folders]
    venues = load_venue_rules(folders, good_positions["venue"].unique(), day)
    inputs = {part.name: part.digest for group in parts.values() for part in group}
    for venue in venues:
        content = find_venue_file(folders, venue).read_bytes()
        inputs[f"venues/{venue}.yaml"] = hashlib.sha256(content).hexdigest()
    sources = [(name, part.source) for name, group in parts.items() for part in group]
    notes = dict.fromkeys(f"{name}: {source}" for name, source in sources if source)
    return Snapshot(
        as_of=day,
        path=path,
        positions=_to_arrow(good_positions.sort("position_id"), POSITIONS),
        contracts=_to_arrow(good_contracts.sort("venue", "symbol"), CONTRACTS),
        tiers=_to_arrow(good_tiers, TIERS),
        accounts=None if good_accounts is None else _to_arrow(good_accounts, ACCOUNTS),
        venues=venues,
        quarantine=_to_arrow(pl.concat(left_out).sort("file", "row"), QUARANTINE),
        n_rows=book.height,
        inputs=dict(sorted(inputs.items())),
        is_synthetic=any(part.is_synthetic for group in parts.values() for part in group),
        notes=tuple(notes),
    )


def check_report(snapshot: Snapshot) -> pa.Table:
    """Quarantined rows counted by rule broken: `reason, n_rows`, commonest first.

    A row that breaks two rules counts under both.
    """
    reasons = pl.Series(pl.from_arrow(snapshot.quarantine["reason"]), dtype=pl.String)
    return kinds_of_reasons(reasons).to_arrow(compat_level=pl.CompatLevel.oldest())


def _date_of(path: Path) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(path.name.removeprefix(_PREFIX))
    except ValueError:
        return None
    return day if path.name == f"{_PREFIX}{day}" else None


def _join(parts: list[Part]) -> pl.DataFrame:
    return pl.concat([part.frame for part in parts])


def _refuse_repeats(path: Path, frame: pl.DataFrame, key: list[str]) -> None:
    # A row without a key is no repeat of another one; it has its own reason.
    is_named = pl.all_horizontal(pl.col(key).str.strip_chars() != "")
    keyed = frame.select(*key, "file", "row").filter(is_named)
    if keyed.n_unique(subset=key) == keyed.height:
        return
    repeated = keyed.filter(keyed.select(key).is_duplicated())
    first = repeated.head(1)
    both = repeated.join(first, on=key, how="semi", maintain_order="left").head(2)
    name = " ".join(first.select(key).row(0))
    at = [f"{file} row {row}" for file, row in both.select("file", "row").rows()]
    raise DataError(
        f"{path}: {', '.join(key)} {name!r} appears in {' and in '.join(at)}; keep one of them"
    )


def _without_option_terms(contracts: pl.DataFrame) -> pl.DataFrame:
    # Writers without nulls put NaN where a swap has no strike or volatility; nobody reads those.
    is_option = pl.col("type") == "option"
    return contracts.with_columns(
        pl.when(is_option.fill_null(True)).then(pl.col(name)).alias(name)
        for name in ("strike", "option_type", "mark_iv")
    )


def _without_owners(good: pl.DataFrame, balances: pl.DataFrame, bad: pl.DataFrame) -> pl.DataFrame:
    """The balances of accounts that no quarantined row belongs to."""
    owner = ["account", "venue"]
    broken = balances.join(bad, on=["file", "row"], how="semi").select(owner)
    return good.join(broken, on=owner, how="anti", maintain_order="left")


def _flag_listed(book: pl.DataFrame, contracts: pl.DataFrame) -> pl.DataFrame:
    key = ["venue", "symbol"]
    known = contracts.select(*key, is_listed=pl.lit(True))
    joined = book.join(known, on=key, how="left", maintain_order="left")
    return joined.with_columns(pl.col("is_listed").fill_null(False))


def _to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    table = frame.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest())
    return conform(table, schema, "snapshot").combine_chunks()
