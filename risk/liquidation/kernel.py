"""The compiled walk: one pass over the cells, each finished while it lies in the cache.

Ladders lie by cell, so a cell's row of each output is added up in the cache and every page of the
outputs is touched once. `docs/design/0004-ladder.md` derives the sums.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit, prefetch
from risk.liquidation.closing import count_at_or_below
from risk.liquidation.columns import (
    HIT_COST,
    HIT_COUNTS,
    HIT_NOTIONAL,
    HIT_PNL,
    HIT_SLOPE,
    HIT_VENUE,
    STOP,
    STOP_BITS,
    Gaps,
    Paths,
    Plain,
    Steps,
)
from risk.liquidation.gaps import correct_gaps, correct_steps
from risk.liquidation.index import grain_of

_ONE = np.uint64(1)
_FEW = np.uint64(8)
#: Scenarios between two requests for memory, and numbers of eight bytes in a line of the cache.
_BUNCH, _LINE = 64, 8


@njit
def fill_buckets(extreme: np.ndarray, bucket: np.ndarray, scale: np.ndarray) -> None:
    """Count the extremes (asset, side, scenario) below each of equally wide buckets.

    The rank of a price among the extremes is then one look-up and a short search: cheaper than a
    merge, whose every step is a coin toss for the processor.
    """
    n_assets, n_sides, n = extreme.shape
    last = bucket.shape[2] - 2
    for a in range(n_assets):
        for s in range(n_sides):
            low, high = extreme[a, s, 0], extreme[a, s, n - 1]
            scale[a, s] = last / (high - low) if high > low else 0.0
            counts = bucket[a, s]
            counts[:] = 0
            for j in range(n):
                counts[int((extreme[a, s, j] - low) * scale[a, s]) + 1] += 1
            for b in range(last + 1):
                counts[b + 1] += counts[b]


@njit
def _count_rungs(ladder, sums, extreme, bucket, scale, new):
    """Say in `new` (scenario,) how many rungs each sorted extreme hits beyond the one before."""
    n, first = len(extreme), sums.first
    begin, end = sums.start[ladder], sums.start[ladder + 1]
    new[:] = 0
    low, high = extreme[0], extreme[n - 1]
    reached = begin + count_at_or_below(first, begin, end, high)
    k = begin + count_at_or_below(first, begin, reached, low)
    new[0] = k - begin
    at = (k + ladder) * sums.hot.shape[1]
    # Unsigned indices: a negative one would have to be looked out for.
    for u in first[k:reached]:
        prefetch(sums.hot, at)
        at += sums.hot.shape[1]
        b = np.uint64((u - low) * scale)
        rank, stop = np.uint64(bucket[b]), np.uint64(bucket[b + _ONE])
        while stop - rank > _FEW:
            middle = (rank + stop) >> _ONE
            if extreme[middle] < u:
                rank = middle + _ONE
            else:
                stop = middle
        # Added, not jumped over: whether one more is passed is a coin toss for the processor. The
        # largest extreme is at or above `u`, so no rank runs past the end.
        rank += np.uint64(extreme[rank] < u)
        rank += np.uint64(extreme[rank] < u)
        while extreme[rank] < u:
            rank += _ONE
        new[rank] += np.uint32(1)


@njit(inline="always")
def is_below(one, other, is_long):
    """Whether adverse coordinate `one` is below `other`, both given by their bits.

    Those of longs are negative and those of shorts positive, so their bits are in order, and whole
    numbers are compared and counted in two instructions where fractions take five. A trigger that
    is never reached, plus infinity, is beyond every price on both sides.
    """
    return one > other if is_long else one < other


@njit
def _climb(first, k, stop, e, is_long):
    """The first rung beyond the price `e`: from `k` on, and up to `stop` or the ladder's last."""
    stop = min(stop, np.uint64(len(first) - 1))
    while stop - k > _FEW:
        middle = (k + stop) >> _ONE
        if is_below(e, first[middle], is_long):
            stop = middle
        else:
            k = middle + _ONE
    while not is_below(e, first[k], is_long):
        k += _ONE
    return k


@njit(inline="always")
def _look_up_rows(ladder, sums, extreme, code, order, row, is_long):
    """Write in `row` (scenario,) the row each scenario takes, by the ladder's index."""
    n, stride = len(extreme), sums.hot.shape[1]
    begin, end = sums.start[ladder], sums.start[ladder + 1]
    index = sums.lower[sums.lower_start[ladder] : sums.lower_start[ladder + 1]]
    below = np.searchsorted(extreme, sums.first[end - 1])
    first, prices = sums.first[begin:end].view(np.uint64), extreme.view(np.uint64)
    base, last = np.uint32(begin + ladder), np.uint32(end + ladder)
    grain = np.uint64(grain_of(end - begin))
    low = np.int64(np.uint64(index[code[0]]) << grain)
    high = np.int64(np.uint64(index[np.uint64(code[n - 1]) + _ONE]) << grain)
    # The running sums are read at random later: ask for them now, for an even part in every bunch,
    # or for those alone that are read, where that is less.
    at, lines = (begin + ladder + low) * stride, (high - low) * stride * _BUNCH // (_LINE * n) + 1
    is_thin = lines > _BUNCH
    for turn in range(0, below, _BUNCH):
        for _ in range(0 if is_thin else lines):
            prefetch(sums.hot, at)
            at += _LINE
        some = range(np.uint64(turn), np.uint64(min(turn + _BUNCH, below)))
        for j in some:
            e, c = prices[j], np.uint64(code[j])
            k = np.uint64(index[c]) << grain
            # The last rung is above `e`, so no comparison runs past the end of the ladder.
            k += np.uint64(not is_below(e, first[k], is_long))
            if not is_below(e, first[k], is_long):
                k = _climb(first, k, np.uint64(index[c + _ONE] + _ONE) << grain, e, is_long)
            row[order[j]] = np.uint32(k) + base
        if is_thin:
            for j in some:
                prefetch(sums.hot, np.int64(row[order[j]]) * stride)
    for j in range(below, n):
        row[order[j]] = last


@njit
def _find_rows(ladder, sums, paths, new, row):
    """Write in `row` (scenario,) which row of the running sums each scenario takes.

    The rows are asked for in their own order: taken first by scenario each would be waited for.
    """
    a, s = sums.asset[ladder], sums.side[ladder]
    extreme, order, code = paths.extreme[a, s], paths.order[a, s], paths.code[a, s]
    if sums.lower_start[ladder] < sums.lower_start[ladder + 1]:
        if s == 0:
            _look_up_rows(ladder, sums, extreme, code, order, row, True)
        else:
            _look_up_rows(ladder, sums, extreme, code, order, row, False)
        return
    _count_rungs(ladder, sums, extreme, paths.bucket[a, s], paths.scale[a, s], new)
    r = np.uint32(sums.start[ladder] + ladder)
    for j in range(len(order)):
        r += new[j]
        row[order[j]] = r


@njit
def _add_hits(ladder, sums, paths, rows, is_wide, is_first, totals):
    """Add what one ladder closes at its triggers, and what survives, to the totals of a cell.

    The first ladder of a cell overwrites them.
    """
    pnl, deficit, notional, counts, venue_gain, market_cost = totals
    row, last, hot, cold = rows[0], paths.last[sums.asset[ladder]], sums.hot, sums.cold
    for i in range(len(row)):
        r = row[i]
        gain = hot[r, HIT_PNL] + hot[r, HIT_SLOPE] * (last[i] - 1.0)
        pnl[i] = gain if is_first else pnl[i] + gain
        notional[i] = hot[r, HIT_NOTIONAL] if is_first else notional[i] + hot[r, HIT_NOTIONAL]
        counts[i] = hot[r, HIT_COUNTS] if is_first else counts[i] + hot[r, HIT_COUNTS]
    if is_first:
        deficit[:] = 0.0
    if sums.is_short[ladder]:
        for i in range(len(row)):
            deficit[i] += sums.short[row[i]]
    if is_wide:
        for i in range(len(row)):
            venue, cost = cold[row[i], HIT_VENUE], cold[row[i], HIT_COST]
            venue_gain[i] = venue if is_first else venue_gain[i] + venue
            market_cost[i] = cost if is_first else market_cost[i] + cost


@njit
def _set_two(ladder, sums, paths, rows, is_wide, ahead, totals):
    """What the first two ladders of a cell, of one asset, come to: written once, in their order.

    Meanwhile the rungs of the cell `ahead` are asked for, if it has long ladders.
    """
    pnl, deficit, notional, counts, venue_gain, market_cost = totals
    one, two = rows[0], rows[1]
    last, hot, cold = paths.last[sums.asset[ladder]], sums.hot, sums.cold
    begin, end = sums.cell_start[ahead], sums.cell_start[ahead + 1]
    at, look, until = sums.start[begin], sums.lower_start[begin], sums.lower_start[end]
    n, bunch, rungs, codes = len(one), len(one), 0, 0
    if look < until:
        bunch = _BUNCH
        rungs = (sums.start[end] - at) * _BUNCH // (_LINE * n) + 1
        codes = (until - look) * _BUNCH // (4 * _LINE * n) + 1
    for turn in range(0, n, bunch):
        for _ in range(rungs):
            prefetch(sums.first, at)
            at += _LINE
        for _ in range(codes):
            prefetch(sums.lower, look)
            look += 4 * _LINE
        for i in range(np.uint64(turn), np.uint64(min(turn + bunch, n))):
            p, q, move = one[i], two[i], last[i] - 1.0
            gain = hot[p, HIT_PNL] + hot[p, HIT_SLOPE] * move
            pnl[i] = gain + (hot[q, HIT_PNL] + hot[q, HIT_SLOPE] * move)
            notional[i] = hot[p, HIT_NOTIONAL] + hot[q, HIT_NOTIONAL]
            counts[i] = hot[p, HIT_COUNTS] + hot[q, HIT_COUNTS]
    if sums.is_short[ladder] or sums.is_short[ladder + 1]:
        for i in range(len(one)):
            deficit[i] = sums.short[one[i]] + sums.short[two[i]]
    else:
        deficit[:] = 0.0
    if is_wide:
        for i in range(len(one)):
            p, q = one[i], two[i]
            venue_gain[i] = cold[p, HIT_VENUE] + cold[q, HIT_VENUE]
            market_cost[i] = cold[p, HIT_COST] + cold[q, HIT_COST]


@njit
def walk_cells(
    walk_order: np.ndarray, plain: Plain, steps: Steps, paths: Paths, gaps: Gaps,
    small_window: int, is_wide: bool, outputs: tuple[np.ndarray, ...],
) -> tuple[int, int, int]:  # fmt: skip
    """Fill the (cell, scenario) outputs; the cube's variables in the order of its schema.

    With `is_wide` false venue gain and market cost are left out, and their outputs may be short.
    `walk_order` (cell,) visits the cells of one asset together, so that its paths stay in the
    cache. Returns how many gap windows were looked up, how many went one by one, and how many
    positions with several rungs were lived again.
    """
    pnl, venue_gain, deficit, market_cost, liquidations, stops, notional = outputs
    n = paths.last.shape[1]
    new, rows, counts = np.empty(n + 1, np.uint32), np.empty((2, n), np.uint32), np.empty(n)
    looked_up, one_by_one, lived = 0, 0, 0
    for turn in range(len(walk_order)):
        cell, ahead = walk_order[turn], walk_order[min(turn + 1, len(walk_order) - 1)]
        wide = cell if is_wide else 0
        totals = (
            pnl[cell], deficit[cell], notional[cell], counts, venue_gain[wide], market_cost[wide]
        )  # fmt: skip
        is_first = True
        for sums in (plain.sums, steps.sums):
            ladder, end = sums.cell_start[cell], sums.cell_start[cell + 1]
            if is_first and ladder + 1 < end and sums.asset[ladder] == sums.asset[ladder + 1]:
                _find_rows(ladder, sums, paths, new, rows[0])
                _find_rows(ladder + 1, sums, paths, new, rows[1])
                _set_two(ladder, sums, paths, rows, is_wide, ahead, totals)
                ladder, is_first = ladder + 2, False
            while ladder < end:
                _find_rows(ladder, sums, paths, new, rows[0])
                _add_hits(ladder, sums, paths, rows, is_wide, is_first, totals)
                ladder, is_first = ladder + 1, False
        before = looked_up + one_by_one + lived
        for ladder in range(plain.sums.cell_start[cell], plain.sums.cell_start[cell + 1]):
            some, others = correct_gaps(
                ladder, plain, gaps, paths.last, small_window, is_wide, totals
            )
            looked_up += some
            one_by_one += others
        for ladder in range(steps.sums.cell_start[cell], steps.sums.cell_start[cell + 1]):
            lived += correct_steps(ladder, steps, gaps, paths, is_wide, totals)
        if looked_up + one_by_one + lived > before:
            # Taking a gap's rungs out of a running sum can leave a rounding crumb below zero.
            for total in totals[1:]:
                for i in range(n):
                    total[i] = total[i] if total[i] > 0.0 else 0.0
        for i in range(n):
            both = np.int64(counts[i])
            liquidations[cell, i] = both & (STOP - 1)
            stops[cell, i] = both >> STOP_BITS
    return looked_up, one_by_one, lived
