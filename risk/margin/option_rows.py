"""Rows of the book that hold options: equity, requirement and first-order exposure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from risk.contracts.options import option_greeks
from risk.margin.terms import Terms

Floats = NDArray[np.float64]


def option_margins(
    positions: pa.Table,
    row: NDArray[np.int64],
    direction: Floats,
    terms: Terms,
    which: NDArray[np.int64],
) -> dict[str, Floats]:
    """Every number of the option positions `which`, NaN for null.

    A bought option is worth its mark and can neither be called nor liquidated. A written one is
    worth its collateral, the premium received included, less the mark; what it must be backed with
    beyond the mark value is its maintenance margin.

    Parameters
    ----------
    positions : pa.Table
        Schema POSITIONS.
    row : ndarray of int (position,)
        Entry of each position's contract in `terms`.
    direction : ndarray (position,)
        +1 bought, -1 written.
    terms : Terms
        With option terms for every contract in `which`.
    which : ndarray of int (option,)
        Rows of `positions`.

    Returns
    -------
    dict of str to ndarray (option,)
        The number columns of `risk.schema.BOOK`, settle currency unless named ``_usd``, beside
        `is_liquidatable` and `is_wrong_side`.
    """
    row, sign = row[which], direction[which]
    held, place = np.unique(row, return_inverse=True)
    options = [option for option in (terms.option[i] for i in held.tolist()) if option is not None]

    def of(name: str, kind: type = float) -> NDArray:
        return np.array([getattr(option, name) for option in options], kind)[place]

    def given(name: str) -> Floats:
        return positions[name].to_numpy()[which]

    nothing = np.full(len(which), np.nan)
    units = given("contracts") * terms.contract_size[row]
    is_short, is_inverse = sign < 0, of("is_inverse", bool)
    mark, index, underlying = of("mark"), of("index_price"), of("underlying")
    collateral = given("position_margin")
    to_usd = np.where(is_inverse, index, 1.0)
    greeks = option_greeks(
        index,
        of("forward"),
        of("strike"),
        of("years"),
        of("volatility"),
        of("is_call", bool),
        is_inverse,
    )
    equity = np.where(is_short, collateral - units * mark, units * mark)
    maintenance = np.where(is_short, units * of("maintenance"), 0.0)
    fee = np.where(is_short, units * of("trigger_fee") * underlying, 0.0)
    initial = np.where(is_short, units * of("initial"), 0.0)
    backing, needed = collateral / units, mark + of("maintenance") + of("trigger_fee") * underlying
    reached = np.where(of("is_strict", bool), backing < needed, backing <= needed)
    exposure = sign * units * greeks.delta * index
    # The coins behind a written inverse option move too.
    exposure += np.where(is_short & is_inverse, collateral * index, 0.0)
    with np.errstate(over="ignore", divide="ignore"):
        ratio = np.where(equity > 0, (maintenance + fee) / equity, np.nan)
    return {
        "notional": units * underlying,
        "unrealized_pnl": sign * units * (mark - given("entry_price")),
        "equity": equity,
        "initial_margin": initial,
        "maintenance_margin": maintenance,
        "margin_ratio": np.where(np.isfinite(ratio), ratio, np.nan),
        "liquidation_price": nothing,
        "bankruptcy_price": nothing,
        "distance_to_liquidation": nothing,
        "notional_usd": units * index,
        "equity_usd": equity * to_usd,
        "exposure_usd": exposure,
        "trigger": nothing,
        "stop_trigger": nothing,
        "closing_fee_rate": of("closing_fee"),
        "liquidation_fee_rate": of("liquidation_fee"),
        "option_units": units,
        "option_margin": np.where(is_short, collateral, np.nan),
        "is_liquidatable": is_short & (reached | (equity <= 0)),
        "is_wrong_side": np.zeros(len(which)),
    }
