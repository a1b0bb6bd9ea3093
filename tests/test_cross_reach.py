"""Pools that no path reaches: left out is left alone, and when a pool is taken up is free."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.compiled import borrow, njit
from risk.liquidation.cross.dying import dies_otherwise, dies_surely
from risk.liquidation.cross.kernel import DIED, TOUCHED, live
from risk.liquidation.cross.reach import (
    find_near,
    find_slopes,
    new_frames,
    quiet_frames,
    show_frames,
)
from risk.margin.excess import new_state, pack
from tests.pools import (
    ASSETS,
    day_of,
    paths_of,
    pools_of,
    random_frames,
    random_pool,
    run_kernel,
)

SEEDS = st.integers(0, 2**32 - 1)


def drawn(rng, n_pools, n_paths, n_frames, *, spread, stops=True):
    """Twins, their pools, and paths with their days (low, high, last) by scenario."""
    twins = [random_pool(rng, stops=stops) for _ in range(n_pools)]
    drawn = [random_frames(rng, n_frames, spread=spread, gaps=False) for _ in range(n_paths)]
    days = [day_of(*one) for one in drawn]
    low, high, last = (np.stack(part) for part in zip(*days, strict=True))
    return twins, pools_of(twins), paths_of([frames for frames, _ in drawn]), (low, high, last)


def named(near):
    """The pairs of a scenario and a pool that may be reached."""
    return {
        (s, k)
        for s in range(len(near.start) - 1)
        for k in near.pool[near.start[s] : near.start[s + 1]].tolist()
    }


def hits_a_stop(twin, low, high):
    """Whether a stop of the twin lies between low and high (asset,), or at one of them."""
    for asset, p in twin.positions.values():
        a = ASSETS.index(asset)
        if p.stop is not None and (
            low[a] <= p.stop / p.mark if p.direction > 0 else high[a] >= p.stop / p.mark
        ):
            return True
    return False


@given(seed=SEEDS, spread=st.sampled_from([0.002, 0.02, 0.2]))
@settings(max_examples=40, deadline=None)
def test_a_pool_that_is_not_near_has_something_left_over_at_every_corner(seed, spread):
    """By the twin's own arithmetic, position by position; and no stop is hit."""
    rng = np.random.default_rng(seed)
    twins, pools, paths, (low, high, _) = drawn(rng, 5, 4, 1, spread=spread)
    near = find_near(find_slopes(pack(pools)), paths, low, high)
    assert near.start[0] == 0
    assert near.start[-1] == len(near.pool)
    for s, k in set(product(range(4), range(5))) - named(near):
        assert not hits_a_stop(twins[k], low[s], high[s])
        for corner in product(*zip(low[s], high[s], strict=True)):
            assert twins[k].excess(dict(zip(ASSETS, corner, strict=True))) > 0


def test_most_pools_are_told_apart_on_a_calm_day_and_dying_ones_never():
    rng = np.random.default_rng(3)
    _, pools, paths, (low, high, last) = drawn(rng, 40, 30, 2, spread=0.005)
    packed = pack(pools)
    near = named(find_near(find_slopes(packed), paths, low, high))
    codes = {
        (s, k): run_kernel(pools, k, paths, s, (low[s], high[s], last[s]), worst=True)[0]
        for s in range(30)
        for k in range(40)
    }
    reached = {pair for pair, code in codes.items() if code & TOUCHED}
    assert 10 < len(reached) < len(near) < 600
    assert reached <= near


@given(seed=SEEDS, spread=st.sampled_from([0.003, 0.01, 0.05]))
@settings(max_examples=40, deadline=None)
def test_when_a_quiet_pool_is_taken_up_changes_no_bit(seed, spread):
    """From the first frame or after any of the quiet ones: the same life, the same counts."""
    rng = np.random.default_rng(seed)
    _, pools, paths, (low, high, last) = drawn(rng, 4, 2, 6, spread=spread)
    packed = pack(pools)
    slopes, frames, state = find_slopes(packed), new_frames(paths), new_state(packed, len(ASSETS))
    for s in range(2):
        show_frames(frames, paths, s)
        for k in range(4):
            found = []
            for quiet in range(quiet_frames(slopes, k, frames, paths.ride_end) + 1):
                out, status = np.zeros((len(packed.legs), 5)), np.zeros(len(packed.legs), "i1")
                day = (low[s], high[s], last[s], out, status)
                code = live(packed, k, state, paths, s, *day, True, quiet)
                lived = (code, out.tobytes(), status.tobytes()) if code & TOUCHED else (code,)
                found.append((*lived, *dies_otherwise(packed, k, state, paths, s, *day, quiet)))
            assert all(one == found[0] for one in found)


@given(seed=SEEDS, stops=st.booleans(), n_frames=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_dying_together_is_the_life_by_that_rule(seed, stops, n_frames):
    rng = np.random.default_rng(seed)
    twin = random_pool(rng, stops=stops)
    frames, here = random_frames(rng, n_frames, spread=0.05)
    pools, day, paths = pools_of([twin]), day_of(frames, here), paths_of([frames])
    if twin.excess(dict.fromkeys(ASSETS, 1.0)) <= 0:
        return
    packed = pack(pools)
    out, status = np.zeros((len(packed.legs), 5)), np.zeros(len(packed.legs), "i1")
    state = new_state(packed, len(ASSETS))
    code = live(packed, 0, state, paths, 0, *day, out, status, False, 0)
    surely = dies_surely(packed, 0, state, paths, 0, 0)
    found = dies_otherwise(packed, 0, state, paths, 0, *day, out, status, 0)
    assert found == (bool(code & DIED), surely)


@njit
def _fill(parts, value):
    """Fill borrowed arrays."""
    first, (second, third) = borrow(parts)
    first[:] = value
    second[:] = value
    return third


def test_what_is_borrowed_is_the_same_memory():
    one, two = np.zeros(3), np.zeros((2, 2))
    assert _fill((one, (two, 5)), 4.0) == 5
    assert one.tolist() == [4.0] * 3
    assert two.tolist() == [[4.0] * 2] * 2
