"""A venue's margin rules: fees, liquidation policy and insurance fund, as dated values in YAML.

One file per venue holds a list of rules, each in force `from` a day until the next one starts. The
rule of a snapshot is the one in force on its as-of date, so an old book is priced by old rules.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from risk.errors import ConfigError

#: A venue's name becomes a file name, so it may not walk through folders.
_VENUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


# Text is let through to the number parser: YAML 1.1 reads 1.0e9 (no sign in the exponent) as text.
_Rate = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, lt=1, allow_inf_nan=False)]
_Amount = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, allow_inf_nan=False)]


class InsuranceFund(BaseModel):
    """What a venue holds against deficits.

    Attributes
    ----------
    currency : str
        Currency of the balance.
    balance : float
        Amount in that currency, not negative.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Annotated[str, Field(min_length=1)]
    balance: _Amount


class VenueRules(BaseModel):
    """How one venue margins and liquidates, from `valid_from` on.

    Attributes
    ----------
    venue : str
        The venue's name, as in the positions.
    valid_from : date
        First day the rule is in force; written `from` in the file.
    source : str
        Page or document the figures come from.
    maintenance_basis : {"mark", "entry"}
        Whether maintenance follows the tested price or is fixed at the entry value.
    trigger_includes_closing_fee : bool
        Whether the test compares equity with maintenance plus the closing fee.
    closing_fee_rate : float
        Fraction of the closed notional, charged at every forced close and stop (a market cost).
    closing_fee_price : {"test", "bankruptcy"}
        Price at which the fee inside the trigger is taken.
    liquidation_fee_rate : float
        Fraction of the notional closed by a liquidation, paid to the venue.
    leftover : {"fund", "holder"}
        Who keeps collateral left after a liquidation.
    partial : {"none", "tiers"}
        Whether a position is closed whole or in steps through the tiers.
    tiers_per_step : int
        With ``partial: tiers``, how many tiers a cut goes down; a position in one of that many
        lowest tiers is closed whole.
    boundary : {"at", "below"}
        Whether equity equal to maintenance is liquidated or safe.
    option_margin : {"deribit", "okx"}, optional
        Formula for short options; only where the venue lists them.
    option_closing_fee_rate, option_liquidation_fee_rate : float, optional
        Shares of the underlying for options; those of the other contracts when absent.
    insurance_fund : InsuranceFund
        What pays deficits first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    venue: Annotated[str, Field(min_length=1)]
    valid_from: dt.date = Field(alias="from", strict=True)
    source: Annotated[str, Field(min_length=1)]
    maintenance_basis: Literal["mark", "entry"]
    trigger_includes_closing_fee: Annotated[bool, Field(strict=True)]
    closing_fee_rate: _Rate
    closing_fee_price: Literal["test", "bankruptcy"]
    liquidation_fee_rate: _Rate
    leftover: Literal["fund", "holder"]
    partial: Literal["none", "tiers"]
    tiers_per_step: Annotated[int, Field(ge=1, le=20, strict=True)] = 1
    boundary: Literal["at", "below"]
    option_margin: Literal["deribit", "okx"] | None = None
    option_closing_fee_rate: _Rate | None = None
    option_liquidation_fee_rate: _Rate | None = None
    insurance_fund: InsuranceFund

    @model_validator(mode="after")
    def _steps_need_partial(self) -> VenueRules:
        if self.partial == "none" and self.tiers_per_step != 1:
            raise ValueError("tiers_per_step needs partial: tiers")
        return self


def find_venue_file(folders: Sequence[Path], venue: str) -> Path:
    """Find the venue's rules: the first folder that has ``<venue>.yaml`` wins.

    Raises
    ------
    ConfigError
        If the name cannot be a file name, or no folder has the file.
    """
    if not _VENUE_NAME.fullmatch(venue):
        raise ConfigError(
            f"venue {venue!r} cannot be a file name: use letters, digits, '-' and '_' only"
        )
    for folder in folders:
        path = Path(folder) / f"{venue}.yaml"
        if path.is_file():
            return path
    searched = ", ".join(str(folder) for folder in folders) or "no folder at all"
    raise ConfigError(
        f"venue {venue!r} has no rules: add {venue}.yaml to a folder that is searched ({searched})"
    )


def read_venue_file(path: Path, venue: str) -> list[VenueRules]:
    """Read every rule in a venue's file, oldest first.

    Raises
    ------
    ConfigError
        If the file is not YAML, a key is missing, unknown or out of range, the file is another
        venue's, or two rules start on the same day.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {_one_line(error)}") from error
    if not isinstance(content, dict) or set(content) != {"venue", "rules"}:
        raise ConfigError(f"{path}: needs exactly the keys venue and rules")
    if content["venue"] != venue:
        raise ConfigError(f"{path}: is about venue {content['venue']!r}; name it after its venue")
    if not isinstance(content["rules"], list) or not content["rules"]:
        raise ConfigError(f"{path}: rules must be a list with at least one rule")
    rules = [_parse_rule(path, venue, n, rule) for n, rule in enumerate(content["rules"], 1)]
    rules.sort(key=lambda rule: rule.valid_from)
    for earlier, later in pairwise(rules):
        if earlier.valid_from == later.valid_from:
            raise ConfigError(f"{path}: two rules start on {later.valid_from}; keep one of them")
    return rules


def load_venue_rules(
    folders: Sequence[Path], venues: Iterable[str], as_of: dt.date
) -> dict[str, VenueRules]:
    """Pick each venue's rule in force on a day.

    Parameters
    ----------
    folders : sequence of Path
        Searched in order; the first one that has ``<venue>.yaml`` wins.
    venues : iterable of str
        The venues of the book.
    as_of : date
        Date of the snapshot; the rule with the latest `from` not after it is taken.

    Returns
    -------
    dict of str to VenueRules
        By venue, in alphabetical order.

    Raises
    ------
    ConfigError
        If a venue has no file, no rule in force yet, or a faulty file.
    """
    return {
        venue: _rule_in_force(find_venue_file(folders, venue), venue, as_of)
        for venue in sorted(set(venues))
    }


def _rule_in_force(path: Path, venue: str, as_of: dt.date) -> VenueRules:
    rules = read_venue_file(path, venue)
    in_force = [rule for rule in rules if rule.valid_from <= as_of]
    if not in_force:
        raise ConfigError(
            f"{path}: no rule is in force on {as_of}; the first starts on {rules[0].valid_from}"
        )
    return in_force[-1]


def _parse_rule(path: Path, venue: str, number: int, rule: Any) -> VenueRules:
    where = f"{path}: rule {number}"
    if not isinstance(rule, dict):
        raise ConfigError(f"{where}: must be a mapping of keys to values")
    if not {"venue", "valid_from"}.isdisjoint(rule):
        raise ConfigError(f"{where}: write the start as 'from' and the venue once, at the top")
    try:
        return VenueRules.model_validate({**rule, "venue": venue})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {key}: {first['msg']}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
