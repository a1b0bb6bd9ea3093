"""The collateral a position needs so that liquidations and deficits stay rare.

Collateral moves a position's trigger and its bankruptcy, and every scenario asks for one amount or
none: enough that its extreme stays short of the trigger, enough that no landing of a jump is past
the bankruptcy. Both are monotone in the price, so the scenarios are sorted once for an asset and
side, and a position costs a few look-ups. Method: ``docs/methods/margin_adequacy.md``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.compiled import njit
from risk.liquidation.columns import Gaps, Held, Rules
from risk.liquidation.impact import Impact
from risk.liquidation.steps import next_trigger, requirement
from risk.liquidation.tails.book import BookTerms
from risk.liquidation.tails.paths import gaps_of, heaviest
from risk.liquidation.tails.state import Levels
from risk.liquidation.tails.trees import add, descend, head
from risk.liquidation.tails.weights import whole_weights
from risk.liquidation.walk import group_gaps

#: How positions were solved: exactly; cut in steps; or closing may cost more than is required.
EXACT, STEPPED, THIN = range(3)

#: Added to a requirement, as a share of the notional, so that rounding cannot undo it.
_HAIR = 1e-9


class Needs(NamedTuple):
    """Results on (position,): equity at the mark, USD, and how it was found."""

    deficit: np.ndarray
    liquidation: np.ndarray
    how: np.ndarray


class Sorted(NamedTuple):
    """What the scenarios do to the longs or the shorts of one asset, in adverse coordinates."""

    quantile: float  # extremes beyond it are rarer than the liquidation target
    outer: float  # than the deficit target
    deepest: float
    landing: np.ndarray  # (gap,), the most adverse first
    before: np.ndarray
    weight: np.ndarray
    opening: np.ndarray  # gaps by rising `before`
    begun_weight: np.ndarray  # (gap + 1,): of the gaps before each in that order


def required_margins(
    book: pa.Table,
    drivers: xr.Dataset,
    *,
    deficit_probability: float = 0.01,
    liquidation_probability: float = 0.05,
    impact: Impact | None = None,
    terms: BookTerms | None = None,
) -> xr.Dataset:
    """Equity every position needs so that deficits and liquidations stay under their targets.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    drivers : Dataset
        Driver record of one whole scenario set, with its weights.
    deficit_probability, liquidation_probability : float
        Targets in (0, 1), over the horizon of the scenarios.
    impact : Impact, optional
        What closing costs a position; what the others do to its price is left out.
    terms : BookTerms, optional
        What was read of the same book with the same impact, if it was read before.

    Returns
    -------
    Dataset (position,)
        One row per row of the book, NaN where it is not priced or has no tiers. All USD, as equity
        at the mark, that is collateral plus unrealised P&L, so that a position with
        ``equity_usd >= required_margin`` is safe enough: `required_margin`, the least from which
        on the probability of a deficit stays at or under its target, however much more is posted;
        `liquidation_required_margin`, the same of a liquidation. Neither is less than what keeps
        the position open at the mark. The attributes count the positions: ``exact``; ``stepped``,
        cut through tiers, for which every jump past the bankruptcy of the uncut position counts as
        a deficit; and ``thin``, where closing may cost more than the maintenance margin, for which
        every close counts as a deficit.

    Raises
    ------
    ConfigError
        If a target lies outside (0, 1).
    DataError
        If the record holds no scenario, its weights do not add up to one, or a priced position's
        asset has no driver, or `terms` were read for other assets.
    """
    levels, weight = whole_weights(
        drivers.weight.values, 1.0 - deficit_probability, 1.0 - liquidation_probability
    )
    if terms is None:
        terms = BookTerms(book, list(drivers.asset.values), impact)
    terms.check(drivers)
    tested, jumps = terms.tested, group_gaps(drivers)
    n = len(tested.row)
    found = Needs(np.empty(n), np.empty(n), np.empty(n, "i1"))
    begin = 0
    for group, end in zip(tested.group.tolist(), tested.end.tolist(), strict=True):
        asset, side = divmod(group, 2)
        extreme = -drivers.low.values[:, asset] if side == 0 else drivers.high.values[:, asset]
        paths = _sort(extreme, weight, gaps_of(jumps, group), levels)
        part = slice(begin, end)
        held = Held(*(column[part] for column in tested.held))
        out = Needs(*(column[part] for column in found))
        _solve(held, tested.rules, tested.stop[part], tested.is_cut[part], paths, levels, out)
        begin = end
    units = {"units": "USD"}
    counts = np.bincount(found.how, minlength=3).tolist()
    return xr.Dataset(
        {
            "required_margin": ("position", _spread(book, tested.row, found.deficit), units),
            "liquidation_required_margin": (
                "position", _spread(book, tested.row, found.liquidation), units,
            ),
        },
        attrs=dict(zip(("exact", "stepped", "thin"), counts, strict=True)),
    )  # fmt: skip


def margins_with(
    book: pa.Table, equity_usd: np.ndarray, assets: list[str], *, terms: BookTerms | None = None
) -> pa.Table:
    """The book as if other collateral had been posted.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    equity_usd : ndarray (position,)
        Equity at the mark wanted, USD; NaN leaves a position as it is.
    assets : list of str
        The drivers' assets.
    terms : BookTerms, optional
        What was read of the same book, if it was read before.

    Returns
    -------
    Table
        The book with `equity_usd`, `exposure_usd` (the coin collateral of an inverse position
        moves with the price) and `trigger` of the new collateral, and without the prices that
        follow from them.
    """
    tested = (BookTerms(book, assets) if terms is None else terms).tested
    known = np.flatnonzero(np.isfinite(equity_usd[tested.row]))
    rows = tested.row[known]
    held = Held(*(column[known] for column in tested.held))
    wanted = equity_usd[rows]
    u = np.empty(len(rows))
    _triggers(held, tested.rules, wanted - held.head * held.notional, u)
    before = book["equity_usd"].to_numpy(zero_copy_only=False)[rows]
    columns = {
        "equity_usd": wanted,
        "exposure_usd": tested.exposure[known] + np.where(held.inverse, wanted - before, 0.0),
        "trigger": np.where(np.isfinite(u), np.where(held.side == 0, -u, u), np.nan),
    }
    for name, values in columns.items():
        whole = book[name].to_numpy(zero_copy_only=False).copy()
        whole[rows] = values
        at = book.schema.get_field_index(name)
        book = book.set_column(at, book.schema.field(at), pa.array(whole, from_pandas=True))
    return book


def _sort(extreme: np.ndarray, weight: np.ndarray, gaps: Gaps, levels: Levels) -> Sorted:
    deepest = np.argsort(-gaps.landing, kind="stable")
    before, of_gap = gaps.before[deepest], weight[gaps.scenario[deepest]]
    opening = np.argsort(before, kind="stable")
    return Sorted(
        quantile=heaviest(extreme, weight, levels.es_limit),
        outer=heaviest(extreme, weight, levels.var_limit),
        deepest=float(extreme.max()),
        landing=gaps.landing[deepest],
        before=before,
        weight=of_gap,
        opening=opening,
        begun_weight=np.append(0.0, np.cumsum(of_gap[opening])),
    )


@njit(inline="always")
def _coordinate(held: Held, p: int, u: float) -> float:
    x = -u if held.side[p] == 0 else u
    return 1.0 / x if held.inverse[p] else x


@njit(inline="always")
def _open_at(held: Held, rules: Rules, p: int, u: float) -> float:
    """Intercept of the value line at which the liquidation test is met exactly at `u`."""
    rule, worth, unit = held.rule[p], held.head[p], held.unit[p]
    size = held.notional[p] * _coordinate(held, p, u)
    tested = held.entered[p] if rules.is_entry_basis[rule] else size
    base = requirement(rules, rule, tested / unit) * unit - worth * size
    rate = rules.trigger_fee[rule]
    if not rules.is_fee_at_bankruptcy[rule]:
        return base + rate * size
    with_fee = base / (1.0 + rate * worth)
    return with_fee if -worth * with_fee > 0.0 else base


@njit(inline="always")
def _broke_at(held: Held, p: int, u: float) -> float:
    """Intercept at which closing at `u` leaves exactly nothing."""
    cost = held.closing_fee[p] + held.impact[p]
    return (cost - held.head[p]) * held.notional[p] * _coordinate(held, p, u)


@njit
def _triggers(held: Held, rules: Rules, intercept: np.ndarray, out: np.ndarray) -> None:
    for p in range(len(intercept)):
        out[p] = next_trigger(held, rules, p, intercept[p], 1.0)


@njit
def _solve(
    held: Held, rules: Rules, stop: np.ndarray, cut: np.ndarray, paths: Sorted, levels: Levels,
    out: Needs,
) -> None:  # fmt: skip
    """Solve the positions of one asset and side, by rising stop."""
    m = len(paths.landing)
    begun, inside = np.zeros((m + 1, 2)), np.zeros((m + 1, 2))
    opened, landed = 0, 0
    for p in range(len(stop)):
        # A stop closes the position before any gap that begins beyond it.
        while opened < m and paths.before[paths.opening[opened]] < stop[p]:
            g = paths.opening[opened]
            add(begun, g, paths.weight[g], 0.0)
            add(inside, g, paths.weight[g], 0.0)
            opened += 1
        while landed < m and paths.landing[m - 1 - landed] < stop[p]:
            add(inside, m - 1 - landed, -paths.weight[m - 1 - landed], 0.0)
            landed += 1
        mark = -1.0 if held.side[p] == 0 else 1.0
        least = _open_at(held, rules, p, mark)
        reach = paths.quantile
        if reach >= stop[p]:
            # Only a gap across both, stop and trigger, still liquidates.
            reach = stop[p]
            if head(inside, m)[0] > levels.es_limit:
                reach = paths.landing[descend(inside, levels.es_limit)[0]]
        kept = max(_open_at(held, rules, p, reach), least)
        hair = _HAIR * held.notional[p]
        base = held.head[p] * held.notional[p]
        out.liquidation[p] = kept + hair + base
        if _is_thin(held, rules, p, mark, least, paths):
            out.how[p] = THIN
            need = max(_open_at(held, rules, p, paths.outer), _broke_at(held, p, paths.outer))
        else:
            out.how[p] = STEPPED if cut[p] else EXACT
            need = _least_safe(held, rules, p, stop[p], least, cut[p], begun, opened, paths, levels)
        out.deficit[p] = max(need, least) + hair + base


@njit(inline="always")
def _is_thin(held: Held, rules: Rules, p: int, mark: float, least: float, paths: Sorted) -> bool:
    """Whether closing may cost more than the position must keep, at the mark or far out.

    Requirement over value rises with the value (or is fixed), so the two ends decide; `least` is
    what it must keep at the mark.
    """
    u = paths.deepest
    return least < _broke_at(held, p, mark) or _open_at(held, rules, p, u) < _broke_at(held, p, u)


@njit(inline="always")
def _least_safe(
    held: Held, rules: Rules, p: int, stop: float, least: float, is_cut: bool, begun: np.ndarray,
    opened: int, paths: Sorted, levels: Levels,
) -> float:  # fmt: skip
    """Intercept from which on the gaps that leave a deficit weigh no more than the limit.

    With less collateral more landings are past the bankruptcy, but the trigger comes earlier, and
    a gap that begins beyond it finds the position closed.
    """
    limit, m = levels.var_limit, len(paths.landing)
    if head(begun, m)[0] <= limit:
        return least
    r = descend(begun, limit)[0]
    need = _broke_at(held, p, paths.landing[r])
    if is_cut or need <= least:
        return max(need, least)
    active = head(begun, r + 1)[0]
    trigger, left = np.inf, opened
    while True:
        # Gaps that begin beyond the trigger leave; they lie in one range of rising beginnings.
        trigger = min(trigger, next_trigger(held, rules, p, need, 1.0))
        stay = _count_before(trigger, left, paths)
        if paths.begun_weight[stay] <= limit:
            return least  # all that are left are too few, and less collateral leaves fewer
        while left > stay:
            left -= 1
            if paths.opening[left] <= r:
                active -= paths.weight[paths.opening[left]]
        if active > limit:
            return need
        # Until as many are there again, no landing can be the one.
        while active <= limit:
            r += 1
            if r == m:
                return least
            if paths.before[r] < stop and paths.before[r] < trigger:
                active += paths.weight[r]
        need = _broke_at(held, p, paths.landing[r])
        if need <= least:
            return least


@njit(inline="always")
def _count_before(trigger: float, stop: int, paths: Sorted) -> int:
    """How many of the first `stop` gaps to begin do so before a trigger."""
    low, high = 0, stop
    while low < high:
        middle = (low + high) >> 1
        if paths.before[paths.opening[middle]] < trigger:
            low = middle + 1
        else:
            high = middle
    return low


def _spread(book: pa.Table, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.full(book.num_rows, np.nan)
    out[rows] = values
    return out
