"""The arrays the compiled option loops work on, and what their columns mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Contracts(NamedTuple):
    """Distinct option contracts, on (contract,); see `risk.margin.options.OptionTerms`.

    Amounts are per base unit in the settle currency unless they are prices.
    """

    asset: np.ndarray  # index among the drivers' assets
    is_call: np.ndarray
    is_inverse: np.ndarray
    strike: np.ndarray
    index_price: np.ndarray
    years: np.ndarray
    carry: np.ndarray
    volatility: np.ndarray
    mark: np.ndarray
    offset: np.ndarray
    base_rate: np.ndarray
    mark_rate: np.ndarray
    trigger_fee: np.ndarray
    closing_fee: np.ndarray
    liquidation_fee: np.ndarray
    to_holder: np.ndarray
    lowest: np.ndarray  # least backing of a writer; inf: nobody has written it
    highest: np.ndarray


class Written(NamedTuple):
    """Ladders of written options: one per contract and cell, rungs sorted by backing per unit.

    Running sums have one row more per ladder than rungs, as in `risk.liquidation.columns.Sums`.
    """

    contract: np.ndarray  # (ladder,)
    cell: np.ndarray
    start: np.ndarray  # (ladder + 1,)
    backing: np.ndarray  # (rung,): collateral per unit
    units: np.ndarray  # (row,): running sum
    margin: np.ndarray


class Bought(NamedTuple):
    """Bought options added up by contract and cell: they are never closed before the horizon."""

    contract: np.ndarray  # (pair,)
    cell: np.ndarray
    units: np.ndarray


class Options(NamedTuple):
    """The options of a book."""

    contracts: Contracts
    written: Written
    bought: Bought
    own_cells: np.ndarray  # cells that hold nothing else


class Holdings(NamedTuple):
    """Option positions one by one, on (position,), in book order."""

    row: np.ndarray  # row in the book
    contract: np.ndarray
    is_written: np.ndarray
    units: np.ndarray
    margin: np.ndarray  # collateral of a written position, 0 if bought
    backing: np.ndarray  # requirement per unit that closes it, inf if bought


class Moves(NamedTuple):
    """What the scenarios do to the assets of the options, step by step."""

    place: np.ndarray  # (asset,): row of each driver asset, -1: not recorded
    path: np.ndarray  # (row, step, scenario), price ratio
    log_volatility: (
        np.ndarray
    )  # (row, step, scenario), of the multiple of today's 30-day volatility
    elapsed: np.ndarray  # (step,), years


class Valued(NamedTuple):
    """Every contract in every scenario: its value at the horizon, and its stairs.

    A stair is a step at which the requirement per unit sets a new maximum that some writer cannot
    meet; stairs are sorted by contract, scenario and step.
    """

    value: np.ndarray  # (contract, scenario), settle currency per unit at the horizon
    last: np.ndarray  # (contract, scenario), price ratio at the horizon
    start: np.ndarray  # (contract + 1,) into the stairs
    scenario: np.ndarray  # (stair,)
    level: np.ndarray  # requirement per unit
    mark: np.ndarray  # value per unit
    ratio: np.ndarray  # price ratio
