"""What the sweeps read of a book: once, however many scenario sets and targets there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.errors import DataError
from risk.liquidation.columns import Held, Rules, Terms
from risk.liquidation.cross import read_pools
from risk.liquidation.impact import Impact
from risk.liquidation.options import Contracts, Holdings, read_options
from risk.liquidation.tails.state import Closable, find_ordered
from risk.liquidation.terms import (
    Closing,
    close_lines,
    close_out_terms,
    held_positions,
    read_rules,
)
from risk.margin.excess import Packed

#: The sweeps; those that return coin need the rank of every scenario.
ORDERED, MERGED, STEPPED, STEPPED_COIN = range(4)


@dataclass(frozen=True)
class Sweeps:
    """Positions by asset, side and sweep, those of one group by rising `first`."""

    group: np.ndarray  # (group,): 8 * asset + 4 * side + sweep
    end: np.ndarray  # (group,): where its positions end
    row: np.ndarray  # (position,): in the book
    kind: np.ndarray  # (position,): sweep
    which: np.ndarray  # (position,): place among those cut in steps, where it is one of them
    closable: Closable


@dataclass(frozen=True)
class Tested:
    """Positions whose liquidation test is known, by asset and side and rising stop."""

    group: np.ndarray  # (group,): 2 * asset + side
    end: np.ndarray
    row: np.ndarray  # (position,)
    held: Held
    rules: Rules
    stop: np.ndarray  # adverse coordinate of a stop that comes first; inf: none
    is_cut: np.ndarray
    exposure: np.ndarray


class BookTerms:
    """A book as the tails and the required margins of its positions ask for it.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : sequence of str
        The drivers' assets.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.

    Examples
    --------
    >>> from risk.schema import BOOK
    >>> BookTerms(BOOK.empty_table(), ["BTC"]).sweeps.row.tolist()
    []
    """

    def __init__(self, book: pa.Table, assets: Sequence[str], impact: Impact | None = None) -> None:
        self.book = book
        self.assets = [str(name) for name in assets]
        self.impact = impact

    def check(self, drivers: xr.Dataset) -> None:
        """Raise `DataError` if the drivers are not those the book was read for."""
        if [str(name) for name in drivers["asset"].values] != self.assets:
            raise DataError("the drivers' assets are not those the book was read for")

    @cached_property
    def closing(self) -> Closing:
        """How every position is closed."""
        return close_out_terms(self.book, self.assets, self.impact)

    @cached_property
    def alone(self) -> Terms:
        """Terms of positions that are alone in the market: the others do nothing to their price."""
        impact = self.impact
        if impact is None or not impact.joint.any():
            return self.closing.terms
        own = replace(impact, own=impact.own + impact.joint, joint=0.0 * impact.joint)
        return close_out_terms(self.book, self.assets, own).terms

    @cached_property
    def options(self) -> tuple[Contracts, Holdings]:
        """The priced options."""
        return read_options(self.book, self.assets)

    @cached_property
    def pools(self) -> Packed:
        """The account pools."""
        return read_pools(self.book, self.assets, self.impact)

    @cached_property
    def sweeps(self) -> Sweeps:
        """The positions as the tails sweep them."""
        terms = self.closing.terms
        closable = _closable(terms)
        kind = _sort_out(terms, closable, bool(self.closing.events.permanent.any()))
        key = (8 * terms.asset.astype("u4") + 4 * (terms.direction < 0) + kind).astype("u4")
        order = np.argsort(terms.first, kind="stable")
        order = order[np.argsort(key[order], kind="stable")]
        group, sizes = np.unique(key, return_counts=True)
        which = np.cumsum(terms.rule >= 0) - 1
        return Sweeps(
            group, np.cumsum(sizes), terms.row[order], kind[order], which[order],
            Closable(*(column[order] for column in closable)),
        )  # fmt: skip

    @cached_property
    def tested(self) -> Tested:
        """The positions as the required margins are solved."""
        terms = self.alone
        rules, rule = read_rules(pc.take(self.book["requirement"], pa.array(terms.row)))
        known = np.flatnonzero(rule >= 0)
        stop = np.where(terms.first < terms.margin, terms.first, np.inf)[known]
        key = 2 * terms.asset[known].astype("i8") + (terms.direction[known] < 0)
        order = np.lexsort((stop, key))
        group, sizes = np.unique(key, return_counts=True)
        known = known[order]
        part = terms.take(known)
        return Tested(
            group, np.cumsum(sizes), part.row, held_positions(part._replace(rule=rule[known])),
            rules, stop[order], part.rule >= 0, part.exposure,
        )  # fmt: skip


def _closable(terms: Terms) -> Closable:
    """All positions as the sweeps ask for them, in book order."""
    alpha, beta, _, fee = close_lines(terms)
    columns = terms._asdict() | {"alpha": alpha, "beta": beta, "fee": fee}
    return Closable(*(columns[name] for name in Closable._fields))


def _sort_out(terms: Terms, book: Closable, is_moved: bool) -> np.ndarray:
    """Which sweep each position takes.

    `is_moved` says that the price at the horizon can lie beyond the path's extreme: then a survivor
    can lose more than a hit, and no losses come in order.
    """
    if is_moved:
        return np.where(terms.rule >= 0, STEPPED_COIN, MERGED)
    sign = terms.direction * -1.0
    is_ordered = np.empty(len(sign), bool)
    find_ordered(sign, book, is_ordered)
    kind = np.where(is_ordered, ORDERED, MERGED)
    # A linear position that was cut while it had equity left has lost at least as much as any
    # survivor whose `last` is better: the survivors' tail is among the most adverse scenarios.
    is_cut = np.flatnonzero(terms.rule >= 0)
    part = terms.take(is_cut)
    left = part.equity + part.exposure * (sign[is_cut] * part.first - 1.0)
    is_plain = ~part.inverse & (part.exposure * sign[is_cut] <= 0) & (left >= 0)
    kind[is_cut] = np.where(is_plain, STEPPED, STEPPED_COIN)
    return kind
