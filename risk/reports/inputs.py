"""What the reports are made of: results and identity of one run, already computed.

The reports do no arithmetic of finance; they select, divide for shares and add for totals. Amounts
are USD; P&L positive is gain; measures, deficits, costs and gains of the venue are amounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import pyarrow as pa
import xarray as xr

from risk.reports.limits import Limit
from risk.reports.section import Section


@dataclass(frozen=True)
class InputFile:
    """One file the run read: its name, digest and, where it has rows, how many."""

    name: str
    sha256: str
    n_rows: int | None = None


@dataclass(frozen=True)
class RunIdentity:
    """Which run this is; nothing in it comes from the clock.

    Attributes
    ----------
    run_id, config_digest, code_version : str
        Digests and version that pin the run.
    seed : int
        Of the Monte Carlo draws.
    scenario_sets : Mapping of str to str
        Name of each set (``monte_carlo``, ``historical``, ``stress``) to its description.
    files : tuple of InputFile
        Every input read.
    price_kind : str
        What the history is made of: mark, last or index.
    tier_sources : tuple of str
        Date and source of each tier table.
    estimators : Mapping of str to str
        Measure or interval to the name of its estimator.
    is_synthetic : bool
        True if the book, the prices or the tiers are made up.
    notes : tuple of str
        Anything else a reader must know.
    """

    run_id: str
    config_digest: str
    code_version: str
    seed: int
    scenario_sets: Mapping[str, str]
    files: tuple[InputFile, ...]
    price_kind: str
    tier_sources: tuple[str, ...]
    estimators: Mapping[str, str]
    is_synthetic: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MarginSummary:
    """The book at the mark.

    Attributes
    ----------
    n_priced, n_margin_calls, n_liquidatable, n_accounts : int
        Priced positions, of these equity below initial margin; closed at the mark; holders.
    long_notional_usd, short_notional_usd, equity_usd : float
        Of the priced positions.
    distance : Dataset (bin, side)
        `lower` and `upper` edge on bin, fractions of the mark (the last upper edge may be
        infinite); `notional_usd` and `n_positions` on (bin, side), side being long and short.
    """

    n_priced: int
    n_margin_calls: int
    n_liquidatable: int
    n_accounts: int
    long_notional_usd: float
    short_notional_usd: float
    equity_usd: float
    distance: xr.Dataset


@dataclass(frozen=True)
class QualityCheck:
    """One data-quality check: a name, a verdict, a sentence, and optionally its number."""

    name: str
    state: Literal["pass", "warn", "fail"]
    detail: str
    value: float | None = None
    unit: str = "1"


@dataclass(frozen=True)
class Reconciled:
    """Two amounts that must be the same: what each is, and whether they are.

    Attributes
    ----------
    name, left_words, right_words : str
    left, right : float
    unit : str
    scale : float
        Size of what was added up, where sums of both signs cancel.
    """

    name: str
    left_words: str
    left: float
    right_words: str
    right: float
    unit: str
    scale: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Equal but for the rounding of sums: to a billionth of what was added up.

        Examples
        --------
        >>> Reconciled("rows", "in", 7.0, "out", 7.0, "1").is_equal
        True
        >>> Reconciled("rows", "in", 7.0, "out", 6.0, "1").is_equal
        False
        """
        size = max(abs(self.left), abs(self.right), self.scale)
        return abs(self.left - self.right) <= 1e-9 * size


@dataclass(frozen=True)
class PreviousNight:
    """What tonight is compared with.

    Attributes
    ----------
    as_of : date
    run_id : str
    values : Mapping of str to float or None
        Its facts by id.
    """

    as_of: date
    run_id: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class ReportInputs:
    """All results of one run that a report may print.

    Attributes
    ----------
    as_of : date
        The close of this UTC day.
    run : RunIdentity
        Identity and lineage.
    measures : DataTree
        Nodes ``/total``, ``/venue``, ...; variables on (scenario_set, confidence, group).
    totals : Mapping of str to DataArray (scenario)
        Scenario set to the P&L of the whole book, USD, coordinate `label`.
    stresses : Dataset (scenario)
        Coordinates `label`, `source`; `pnl`, `deficit`, `venue_gain`, `market_cost`,
        `liquidations`, `stops`, `liquidated_notional`; `deficit_by_venue` on (scenario, venue).
    coverage : Table
        Schema ``COVERAGE``.
    coverage_floor : float
        Least share of the notional that must be priced, a fraction.
    reasons : Table (status, reason, n_positions, notional_usd)
        Why rows are not priced; notional null where unknown.
    margin : MarginSummary
        The book at the mark.
    curves : Dataset (asset, move)
        `liquidated_notional` and `liquidations` by own-price move, a fraction.
    contributors : Table (label, group, expected_shortfall_contribution)
        Of the headline expected shortfall, USD; each label's rows sum to it.
    accounts : Table (account, scenario, pnl_usd, deficit_usd, notional_usd)
        Accounts with the worst stress, largest loss or deficit first.
    funds : Table (venue, currency, balance_usd)
        Insurance funds.
    adequacy : Table or None
        Lines of the capital summary: row, line, title, value, unit, basis, is_verified.
    capital : Table or None
        Further lines of the capital page, one rule after the other: section, section_title,
        section_note, row, line, title, value, unit, basis, status, where, is_informational,
        is_verified, note.
    entity : str
        Who reports, for the capital summary.
    limits : tuple of Limit
        The inventory of limits.
    previous : PreviousNight or None
        The night before, where the run was given one.
    parameters : Mapping of str to float
        Numeric settings printed in the report, such as `horizon_days`.
    quality : tuple of QualityCheck
        Checks of the inputs.
    gap_sensitivity : Dataset (gap) or None
        Deficits by the share of a move that lands as one jump; one variable per column, titled by
        its attribute `long_name`.
    sections : tuple of Section
        Further sections of the officer's report, in the order of the page.
    exposures : Table or None
        How the book is spread: schema ``risk.reports.exposures.EXPOSURES``.
    reconciled : tuple of Reconciled
        Totals beside what they must be equal to.
    methods : Table or None
        Schema METHODS: how the priced positions are evaluated.
    """

    as_of: date
    run: RunIdentity
    measures: xr.DataTree
    totals: Mapping[str, xr.DataArray]
    stresses: xr.Dataset
    coverage: pa.Table
    coverage_floor: float
    reasons: pa.Table
    margin: MarginSummary
    curves: xr.Dataset
    contributors: pa.Table
    accounts: pa.Table
    funds: pa.Table
    adequacy: pa.Table | None = None
    capital: pa.Table | None = None
    entity: str = "the reporting entity"
    limits: tuple[Limit, ...] = ()
    previous: PreviousNight | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    quality: tuple[QualityCheck, ...] = ()
    gap_sensitivity: xr.Dataset | None = None
    sections: tuple[Section, ...] = ()
    exposures: pa.Table | None = None
    reconciled: tuple[Reconciled, ...] = ()
    methods: pa.Table | None = None
