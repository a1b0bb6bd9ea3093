"""What if: a snapshot with positions added, removed, re-levered or topped up, or other tiers.

The schema of the file is ``docs/what_if.md``. Changes are applied in their order, each on what the
one before left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from risk.errors import ConfigError
from risk.schema import POSITIONS, TIERS
from risk.snapshot import Snapshot

_Names = str | list[str]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Where(_Keys):
    """Which positions; every key given must fit."""

    position_id: _Names | None = None
    account: _Names | None = None
    book: _Names | None = None
    venue: _Names | None = None
    symbol: _Names | None = None
    asset: _Names | None = None
    side: _Names | None = None
    #: Entry value over collateral, at or above.
    leverage_above: _Positive | None = None

    @model_validator(mode="after")
    def _something(self) -> Where:
        if not self.model_dump(exclude_none=True):
            raise ValueError("name what is meant, such as asset: BTC")
        return self


class TopUp(_Keys):
    """Collateral on top: an amount per position in its settle currency, or a share of its value."""

    where: Where
    amount: _Positive | None = None
    notional_share: _Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> TopUp:
        if (self.amount is None) == (self.notional_share is None):
            raise ValueError("write either amount or notional_share")
        return self


class Remove(_Keys):
    """Positions that are taken out."""

    where: Where


class ReLever(_Keys):
    """Collateral such that entry value over collateral is the leverage."""

    where: Where
    leverage: _Positive


class Added(_Keys):
    """A position as in positions.parquet."""

    position_id: str
    account: str
    book: str
    venue: str
    symbol: str
    side: Literal["long", "short"]
    contracts: _Positive
    entry_price: _Positive
    margin_mode: Literal["isolated"] = "isolated"
    position_margin: _Amount
    leverage: _Positive | None = None
    stop_loss_price: _Positive | None = None


class Add(_Keys):
    """New positions in contracts that the snapshot lists."""

    positions: Annotated[list[Added], Field(min_length=1)]


class WhereTiers(_Keys):
    """Which tier tables."""

    venue: _Names | None = None
    symbol: _Names | None = None
    asset: _Names | None = None


class Tiers(_Keys):
    """Maintenance rates times a number, plus a number, or both; amounts follow."""

    where: WhereTiers = WhereTiers()
    rate_times: _Positive = 1.0
    rate_plus: Annotated[float, Field(gt=-1, lt=1)] = 0.0


class Change(_Keys):
    """One change: exactly one key."""

    add: Add | None = None
    remove: Remove | None = None
    re_lever: ReLever | None = None
    top_up: TopUp | None = None
    tiers: Tiers | None = None

    @model_validator(mode="after")
    def _one(self) -> Change:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"write exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """The key given."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)


class WhatIf(_Keys):
    """A named branch."""

    title: Annotated[str, Field(min_length=1, max_length=120)]
    changes: Annotated[list[Change], Field(min_length=1)]


@dataclass(frozen=True)
class Applied:
    """One change as it was made: its kind, and how many positions or tier tables it touched."""

    kind: str
    n_changed: int


def load_what_if(path: Path) -> WhatIf:
    """Read a what-if file.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, has an unknown key or a value that is not allowed; one
        sentence with the file, the key and the fix.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); mend the path") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML ({_short(error)}); mend it") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no keys; write title and changes, see docs/what_if.md")
    try:
        return WhatIf.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        fault = min(faults, key=lambda one: one["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in fault["loc"])
        words = {
            "extra_forbidden": "is not a known key; take it out or correct its name",
            "missing": "is missing; write it",
        }
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = words.get(fault["type"], f"is {fault['input']!r}: {message}")
        raise ConfigError(f"{path}: {key} {found} (docs/what_if.md)") from None


def apply_what_if(
    snapshot: Snapshot, what_if: WhatIf, path: Path
) -> tuple[Snapshot, list[Applied]]:
    """The snapshot of the branch, and what every change did.

    Parameters
    ----------
    snapshot : Snapshot
        Stays as it is.
    what_if : WhatIf
    path : Path
        Where the changes were read, for the messages.

    Returns
    -------
    Snapshot
        Rows that came in count what was added and no longer what was removed.
    list of Applied

    Raises
    ------
    ConfigError
        If a change fits no position or table, adds an id that is there or a contract that is not,
        or makes a maintenance rate that is not a rate.
    """
    done = []
    for place, change in enumerate(what_if.changes):
        where = f"{path}: changes.{place}.{change.kind}"
        before = snapshot.positions.num_rows
        if change.add:
            snapshot = _add(snapshot, change.add, where)
            n = len(change.add.positions)
        elif change.tiers:
            snapshot, n = _change_tiers(snapshot, change.tiers, where)
        else:
            part = change.remove or change.re_lever or change.top_up
            assert part is not None
            chosen = _choose(snapshot, part.where, where)
            n = int(chosen.sum())
            if isinstance(part, Remove):
                kept = snapshot.positions.filter(pa.array(~chosen))
                snapshot = replace(snapshot, positions=kept)
            else:
                snapshot = replace(snapshot, positions=_collateral(snapshot, part, chosen))
        moved = snapshot.positions.num_rows - before
        snapshot = replace(snapshot, n_rows=snapshot.n_rows + moved)
        done.append(Applied(change.kind, n))
    return snapshot, done


def _short(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())[:120]


def _names(value: _Names) -> list[str]:
    return [value] if isinstance(value, str) else value


def _terms(snapshot: Snapshot) -> dict[tuple[str, str], dict[str, Any]]:
    names = ("venue", "symbol", "base", "type", "linear", "contract_size")
    rows = snapshot.contracts.select(names).to_pylist()
    return {(row["venue"], row["symbol"]): row for row in rows}


def _per_position(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """Asset of every position, and its entry value in the settle currency."""
    terms = _terms(snapshot)
    positions = snapshot.positions
    keys = zip(positions["venue"].to_pylist(), positions["symbol"].to_pylist(), strict=True)
    rows = [terms[key] for key in keys]
    size = np.array([row["contract_size"] for row in rows], "f8")
    is_inverse = np.array([not row["linear"] and row["type"] != "option" for row in rows], bool)
    size *= positions["contracts"].to_numpy()
    entry = positions["entry_price"].to_numpy()
    value = np.where(is_inverse, size / entry, size * entry)
    return np.array([row["base"] for row in rows], object), value


def _choose(snapshot: Snapshot, where: Where, message: str) -> np.ndarray:
    """Positions that fit (position,), or an error if none does."""
    positions = snapshot.positions
    asset, value = _per_position(snapshot)
    chosen = np.ones(positions.num_rows, bool)
    for name, wanted in where.model_dump(exclude_none=True).items():
        if name == "leverage_above":
            margin = positions["position_margin"].to_numpy()
            fits = value >= wanted * margin
        elif name == "asset":
            fits = np.isin(asset.astype(str), _names(wanted))
        else:
            values = pa.array(_names(wanted), pa.string())
            column = positions[name].cast(pa.string())
            fits = pc.is_in(column, values).to_numpy(zero_copy_only=False)
            lost = sorted(set(_names(wanted)) - set(pc.unique(column).to_pylist()))
            if name == "position_id" and lost:
                raise ConfigError(
                    f"{message}.where.position_id: the snapshot holds no position {lost[0]!r}; "
                    "correct the name"
                )
        chosen &= fits
    if not chosen.any():
        raise ConfigError(f"{message}.where fits no position of the snapshot; widen it")
    return chosen


def _collateral(snapshot: Snapshot, part: ReLever | TopUp, chosen: np.ndarray) -> pa.Table:
    positions = snapshot.positions
    _, value = _per_position(snapshot)
    margin = positions["position_margin"].to_numpy().copy()
    if isinstance(part, ReLever):
        margin[chosen] = value[chosen] / part.leverage
        leverage = positions["leverage"].to_numpy(zero_copy_only=False).copy()
        leverage[chosen] = part.leverage
        at = positions.schema.get_field_index("leverage")
        field = positions.schema.field(at)
        positions = positions.set_column(at, field, pa.array(leverage, from_pandas=True))
    elif part.amount is not None:
        margin[chosen] += part.amount
    else:
        assert part.notional_share is not None
        margin[chosen] += part.notional_share * value[chosen]
    at = positions.schema.get_field_index("position_margin")
    return positions.set_column(at, positions.schema.field(at), pa.array(margin))


def _add(snapshot: Snapshot, part: Add, message: str) -> Snapshot:
    terms = _terms(snapshot)
    held = set(snapshot.positions["position_id"].to_pylist())
    for place, one in enumerate(part.positions):
        here = f"{message}.positions.{place}"
        if one.position_id in held:
            raise ConfigError(
                f"{here}.position_id: {one.position_id!r} is already there; choose another"
            )
        held.add(one.position_id)
        if (one.venue, one.symbol) not in terms:
            raise ConfigError(
                f"{here}.symbol: the snapshot lists no contract {one.symbol} on {one.venue}; "
                "choose one of contracts.parquet"
            )
        if one.venue not in snapshot.venues:
            raise ConfigError(
                f"{here}.venue: no position of the snapshot is held on {one.venue}, so its margin "
                "rules were not read; choose a venue of the book"
            )
    rows = [one.model_dump() for one in part.positions]
    schema = pa.schema([(name, POSITIONS.field(name).type) for name in POSITIONS.names])
    new = pa.Table.from_pylist(rows, schema=schema).cast(snapshot.positions.schema)
    both = pa.concat_tables([snapshot.positions, new])
    return replace(snapshot, positions=both.sort_by("position_id"))


def _change_tiers(snapshot: Snapshot, part: Tiers, message: str) -> tuple[Snapshot, int]:
    """Scale or lift the rates; the amounts that join the tiers are worked out again."""
    asset = {key: row["base"] for key, row in _terms(snapshot).items()}
    wanted = {k: _names(v) for k, v in part.where.model_dump(exclude_none=True).items()}
    rows = snapshot.tiers.to_pylist()
    changed: set[tuple[str, str]] = set()
    amount = before = 0.0
    for row in rows:
        key = (row["venue"], row["symbol"])
        own = {"venue": key[0], "symbol": key[1], "asset": asset.get(key)}
        if any(own[name] not in names for name, names in wanted.items()):
            continue
        changed.add(key)
        rate = row["maintenance_margin_rate"] * part.rate_times + part.rate_plus
        if not 0 <= rate < 1:
            raise ConfigError(
                f"{message}: the rate of {key[1]} on {key[0]}, tier {row['tier']}, would be "
                f"{rate:g}; keep it from 0 to below 1"
            )
        is_first = row["tier"] == 1
        amount = 0.0 if is_first else amount + row["min_notional"] * (rate - before)
        row["maintenance_margin_rate"], row["maintenance_amount"], before = rate, amount, rate
    if not changed:
        raise ConfigError(f"{message}.where fits no tier table of the snapshot; widen it")
    schema = snapshot.tiers.schema if snapshot.tiers.schema else TIERS
    return replace(snapshot, tiers=pa.Table.from_pylist(rows, schema=schema)), len(changed)
