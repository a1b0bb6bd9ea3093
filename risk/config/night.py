"""The config of a whole night, and which of its keys change a number."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from risk.config.keys import Count, Flag, Keys
from risk.config.scenarios import Scenarios
from risk.config.sections import (
    Accounts,
    Cross,
    Execution,
    Liquidation,
    Margin,
    Measures,
    Schedule,
    WhatIf,
)
from risk.schema import LABELS


class Config(Keys):
    """A whole night. See `load_config` for reading one."""

    as_of: Literal["latest"] | dt.date = "latest"
    snapshot: Path
    history: Path
    venues: Path
    horizon_days: Count = 1
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    #: Roll-up labels that make a cube cell.
    cells: tuple[str, ...] = LABELS
    max_cells: Count = 2000
    scenarios: Scenarios
    liquidation: Liquidation = Liquidation()
    measures: Measures = Measures()
    margin: Margin = Margin()
    accounts: Accounts = Accounts()
    cross: Cross = Cross()
    capital: Path | None = None
    limits: Path | None = None
    execution: Execution = Execution()
    schedule: Schedule = Schedule()
    #: Run on a snapshot without a single position instead of refusing it.
    allow_empty: Flag = False
    #: A branch beside a finished run; `bulkhead run --what-if` sets it.
    what_if: WhatIf | None = None
    out: Path

    @field_validator("cells")
    @classmethod
    def _each_once(cls, cells: tuple[str, ...]) -> tuple[str, ...]:
        if not cells or len(set(cells)) != len(cells) or not set(cells) <= set(LABELS):
            raise ValueError(f"write at least one of {', '.join(LABELS)}, each once")
        return tuple(label for label in LABELS if label in cells)

    @property
    def as_of_date(self) -> dt.date | None:
        """The date asked for; None for the latest snapshot."""
        return None if self.as_of == "latest" else self.as_of


#: Keys that say where things are and how they are executed, not what is computed.
NOT_IDENTITY: Any = {
    "as_of": True,
    "snapshot": True,
    "history": True,
    "venues": True,
    "capital": True,
    "limits": True,
    "out": True,
    "execution": True,
    "schedule": True,
    "what_if": True,
    "scenarios": {"stress": {"folder"}},
}


def config_identity(config: Config) -> dict[str, Any]:
    """The keys that change a number, as JSON values: no paths, no execution, no schedule.

    The as-of date and the content of every file behind a path are digested beside it, by the store.
    """
    return config.model_dump(mode="json", exclude=NOT_IDENTITY)


def config_digest(config: Config) -> str:
    """SHA-256 (hex) of `config_identity`."""
    text = json.dumps(config_identity(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
