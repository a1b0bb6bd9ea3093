"""Option contracts: what their marks imply, and what a written option must be backed with.

The forward is not in a snapshot. It is the one at which the marks of an expiry are what their
`mark_iv` gives; the index stands in where no contract says. What is then left between model and
mark, a rounding of the venue's, is kept as a constant. `docs/methods/options.md` has the rules.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from risk.contracts.options import (
    implied_forward,
    implied_volatility,
    option_greeks,
    option_value,
)
from risk.schema import USD_EQUIVALENTS

if TYPE_CHECKING:
    from risk.margin.venues import VenueRules

_YEAR = dt.timedelta(days=365)

#: Contracts whose delta lies between these say where the forward is; the mark of another is mostly
#: rounding or mostly forward.
_TELLING = (0.2, 0.8)
#: A forward further from the index than this, a logarithm at once and one per year, is an error of
#: the marks and not a basis.
_FARTHEST = (0.02, 0.5)
#: How far a mark may lie from the model: a share of the mark, or of the underlying.
_SHARE_OF_MARK, _SHARE_OF_INDEX = 0.10, 0.001

#: Maintenance of one written unit beyond its mark value: a share of the underlying, or of the mark
#: if that is more.
_MAINTENANCE = {
    ("deribit", "call"): (0.075, 0.0),
    ("deribit", "put"): (0.075, 0.075),
    ("okx", "call"): (0.03, 0.0),
    ("okx", "put"): (0.03, 0.0),
}
#: Initial margin beyond the mark value: the first less how far out of the money, but at least the
#: second, of the underlying.
_INITIAL = (0.15, 0.10)


@dataclass(frozen=True)
class OptionTerms:
    """What it takes to value one option contract and to test who has written it.

    Amounts are per base unit; in coin if inverse, else in the quote currency.

    Attributes
    ----------
    is_call, is_inverse : bool
        Right to buy or to sell; paid in coin or in the quote currency.
    strike, index_price : float
        Quote currency.
    years : float
        From the snapshot to the expiry, of 365 days.
    carry : float
        Logarithm of forward over index at the snapshot; shrinks to zero at the expiry.
    volatility : float
        Implied, at the snapshot.
    mark : float
        The venue's mark.
    offset : float
        Mark less model at the snapshot.
    base_rate, mark_rate : float
        A written unit is backed with its value and the larger of `base_rate` of the underlying and
        `mark_rate` of the value.
    trigger_fee, closing_fee, liquidation_fee : float
        Shares of the underlying: in the test, paid to the market, paid to the venue.
    leftover_to_holder, is_strict : bool
        The venue's rules.
    """

    is_call: bool
    is_inverse: bool
    strike: float
    index_price: float
    years: float
    carry: float
    volatility: float
    mark: float
    offset: float
    base_rate: float
    mark_rate: float
    trigger_fee: float
    closing_fee: float
    liquidation_fee: float
    leftover_to_holder: bool
    is_strict: bool

    @property
    def underlying(self) -> float:
        """One base unit at the index, in the settle currency."""
        return 1.0 if self.is_inverse else self.index_price

    @property
    def forward(self) -> float:
        """Forward price for the expiry, quote currency."""
        return self.index_price * float(np.exp(self.carry))

    @property
    def maintenance(self) -> float:
        """Backing of a written unit beyond its mark value."""
        return max(self.base_rate * self.underlying, self.mark_rate * self.mark)

    @property
    def initial(self) -> float:
        """Backing a writer is asked for at first, beyond the mark value."""
        price, strike = self.index_price, self.strike
        out = max(strike - price, 0.0) if self.is_call else max(price - strike, 0.0)
        asked = max(_INITIAL[0] - out / price, _INITIAL[1]) * self.underlying
        return asked if self.is_call else max(asked, self.maintenance)

    def to_text(self) -> str:
        """JSON that `read_option_terms` reads back to the same bits."""
        return json.dumps(asdict(self), separators=(",", ":"))


def read_option_terms(text: str) -> OptionTerms:
    """Read what `OptionTerms.to_text` wrote."""
    return OptionTerms(**json.loads(text))


def expiry_forwards(
    rows: Sequence[Mapping[str, Any]], volatility: np.ndarray, years: np.ndarray
) -> np.ndarray:
    """Forward of each option contract's expiry, quote currency.

    Parameters
    ----------
    rows : sequence of mapping (contract,)
        Columns of `risk.schema.CONTRACTS`; index and mark above zero, or the row takes no part.
    volatility, years : ndarray (contract,)
        Implied volatility, NaN where there is none, and time to expiry.

    Returns
    -------
    ndarray (contract,)
        The median, over the contracts of one venue, base, settle currency and expiry with a delta
        of 0.2 to 0.8, of the forward at which the model gives the mark; the index without such a
        contract, or where that lies further off than 2 % and 50 % per year. NaN without an index.
    """
    index = np.array([row["index_price"] or np.nan for row in rows], "f8")
    mark = np.array([row["mark_price"] or np.nan for row in rows], "f8")
    strike = np.array([row["strike"] or np.nan for row in rows], "f8")
    is_call = np.array([row["option_type"] == "call" for row in rows], bool)
    is_inverse = np.array([not row["linear"] for row in rows], bool)
    is_known = (volatility > 0) & (years > 0) & (mark > 0) & (index > 0) & (strike > 0)
    found = np.full(len(rows), np.nan)
    at = np.flatnonzero(is_known)
    if len(at):
        given = (strike[at], years[at], volatility[at], is_call[at], is_inverse[at])
        near = implied_forward(mark[at], index[at], *given)
        # Comparisons with NaN, where no forward fits, are false.
        delta = np.abs(option_greeks(near, near, *given).delta)
        tells = (delta >= _TELLING[0]) & (delta <= _TELLING[1])
        found[at[tells]] = near[tells]
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row["venue"], row["base"], row["settle"], row["expiry"]].append(i)
    forward = index.copy()
    for members in groups.values():
        told = found[members]
        told = told[np.isfinite(told)]
        if not len(told):
            continue
        middle = float(np.median(told))
        for i in members:
            if abs(np.log(middle / index[i])) <= _FARTHEST[0] + _FARTHEST[1] * years[i]:
                forward[i] = middle
    return forward


def option_terms(
    rows: Sequence[Mapping[str, Any]],
    venues: Mapping[str, VenueRules],
    close: dt.datetime,
) -> list[OptionTerms | str]:
    """Terms of every option contract, or why it cannot be priced.

    Parameters
    ----------
    rows : sequence of mapping (contract,)
        Option rows of `risk.schema.CONTRACTS`.
    venues : mapping of str to VenueRules
        Rules in force, for every venue in the rows.
    close : datetime
        When the marks were taken: the close of the as-of day.

    Returns
    -------
    list of OptionTerms or str (contract,)
        A reason where there are no terms. A missing `mark_iv` is solved from the mark.
    """
    reasons = [_reason(row, venues[row["venue"]], close) for row in rows]
    sound = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    years = np.array([(row["expiry"] - close) / _YEAR for row in sound], "f8")
    volatility = np.array([row["mark_iv"] or np.nan for row in sound], "f8")
    forward = expiry_forwards(sound, volatility, years)
    mark, strike, index = (
        np.array([row[name] for row in sound], "f8")
        for name in ("mark_price", "strike", "index_price")
    )
    is_call = np.array([row["option_type"] == "call" for row in sound], bool)
    is_inverse = np.array([not row["linear"] for row in sound], bool)
    if len(sound):
        solved = implied_volatility(mark, forward, strike, years, is_call, is_inverse)
        volatility = np.where(np.isnan(volatility), solved, volatility)
        model = option_value(forward, strike, years, volatility, is_call, is_inverse)
    found: list[OptionTerms | str] = []
    at = iter(range(len(sound)))
    for row, reason in zip(rows, reasons, strict=True):
        if reason:
            found.append(reason)
            continue
        i, name = next(at), f"{row['venue']} {row['symbol']}"
        unit = 1.0 if is_inverse[i] else index[i]
        if not np.isfinite(volatility[i]):
            found.append(f"no mark_iv, and none gives mark_price {mark[i]:g} of {name}")
        elif abs(mark[i] - model[i]) > max(_SHARE_OF_MARK * mark[i], _SHARE_OF_INDEX * unit):
            found.append(
                f"mark_price {mark[i]:g} of {name} is not the {model[i]:g} that mark_iv gives"
            )
        else:
            rules = venues[row["venue"]]
            base_rate, mark_rate = _MAINTENANCE[rules.option_margin or "", row["option_type"]]
            fee, penalty = _fees(rules)
            found.append(
                OptionTerms(
                    is_call=bool(is_call[i]),
                    is_inverse=bool(is_inverse[i]),
                    strike=float(strike[i]),
                    index_price=float(index[i]),
                    years=float(years[i]),
                    carry=float(np.log(forward[i] / index[i])),
                    volatility=float(volatility[i]),
                    mark=float(mark[i]),
                    offset=float(mark[i] - model[i]),
                    base_rate=base_rate,
                    mark_rate=mark_rate,
                    trigger_fee=fee if rules.trigger_includes_closing_fee else 0.0,
                    closing_fee=fee,
                    liquidation_fee=penalty,
                    leftover_to_holder=rules.leftover == "holder",
                    is_strict=rules.boundary == "below",
                )
            )
    return found


def _fees(rules: VenueRules) -> tuple[float, float]:
    """Closing and liquidation fee of options, shares of the underlying."""
    closing, penalty = rules.option_closing_fee_rate, rules.option_liquidation_fee_rate
    return (
        rules.closing_fee_rate if closing is None else closing,
        rules.liquidation_fee_rate if penalty is None else penalty,
    )


def _reason(row: Mapping[str, Any], rules: VenueRules, close: dt.datetime) -> str:
    name = f"{row['venue']} {row['symbol']}"
    settles_in = row["quote"] if row["linear"] else row["base"]
    if row["settle"] != settles_in:
        return f"settles in {row['settle']}, not in {settles_in}: {name}"
    if row["quote"] not in USD_EQUIVALENTS:
        return f"quoted in {row['quote']}, which is not taken as a US dollar: {name}"
    if rules.option_margin is None:
        return f"venue {row['venue']} has no option_margin rule for options"
    if row["expiry"] is None or row["expiry"] <= close:
        return f"expired: {name}"
    if row["option_type"] not in {"call", "put"}:
        return f"neither a call nor a put: {name}"
    for column in ("contract_size", "strike", "mark_price", "index_price"):
        value = row[column]
        if value is None or not np.isfinite(value) or value <= 0:
            return f"no {column.replace('_', ' ')} above zero for {name}"
    iv = row["mark_iv"]
    if iv is not None and not (np.isfinite(iv) and 0 <= iv <= 20):
        return f"mark_iv {iv:g} is no fraction per year between 0 and 20: {name}"
    return ""
