"""Account pools: the kernel against its twin, and the laws of sharing collateral."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.drivers import joint_bars
from risk.liquidation import position_outcomes
from risk.liquidation.columns import STOPPED
from risk.liquidation.cross.dying import dies_surely
from risk.liquidation.cross.kernel import COULD_DIE, DIED, TOUCHED
from risk.margin.excess import new_state, pack
from tests.books import book_of, drivers_of, random_path, random_position
from tests.brute import Position
from tests.cross_twin import Pool, live_pool
from tests.pools import (
    ASSETS,
    MARK,
    day_of,
    paths_of,
    pools_of,
    random_frames,
    random_pool,
    run_kernel,
)

SEEDS = st.integers(0, 2**32 - 1)


def both(twin, frames, here, *, worst=False):
    """The twin's and the kernel's result of one pool on one path."""
    pools, day = pools_of([twin]), day_of(frames, here)
    code, out, status = run_kernel(pools, 0, paths_of([frames]), 0, day, worst=worst)
    return live_pool(twin, frames, ASSETS, here, worst=worst), code, out, status, pools


@pytest.mark.parametrize("worst", [False, True])
@pytest.mark.parametrize("n_frames", [1, 5])
@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_the_kernel_agrees_with_its_twin(n_frames, worst, seed):
    rng = np.random.default_rng(seed)
    twin = random_pool(rng)
    frames, here = random_frames(rng, n_frames)
    if twin.excess(dict.fromkeys(ASSETS, 1.0)) <= 0:
        return
    slow, code, out, _, pools = both(twin, frames, here, worst=worst)
    scale = pools.notional.sum() + abs(pools.alpha).sum()
    assert bool(code & DIED) == slow["died"]
    assert out[:, 0].sum() == pytest.approx(slow["pnl"], abs=1e-9 * scale)
    assert out[:, 1].sum() == pytest.approx(slow["venue_gain"], abs=1e-9 * scale)
    assert out[:, 2].sum() == pytest.approx(slow["deficit"], abs=1e-9 * scale)
    assert bool(code & TOUCHED) == (slow["died"] or twin.stops > 0)
    if code & TOUCHED:
        names = sorted(twin.positions)
        by_row = dict(zip(pools.row.tolist(), out, strict=True))
        costs = [by_row[i][3] for i in range(len(names))]
        closed = [by_row[i][4] for i in range(len(names))]
        assert costs == pytest.approx([twin.costs[n] for n in names], abs=1e-9 * scale)
        assert closed == pytest.approx([twin.closed[n] for n in names], abs=1e-9 * scale)


@pytest.mark.parametrize("worst", [False, True])
@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_a_pool_of_one_position_is_the_isolated_position(worst, seed):
    rng = np.random.default_rng(seed)
    position = random_position(rng, mark=MARK)
    drivers = drivers_of({"BTC": [random_path(rng) for _ in range(5)]})
    alone = position_outcomes(book_of([position]), drivers)
    twin = Pool({"p": ("BTC", position)}, to_holder=position.to_holder, marks={"BTC": MARK})
    pools = pools_of([twin])
    pools = pools._replace(asset=np.zeros(1, "i4"), driver=np.zeros(1, "i4"))
    paths = joint_bars(drivers)
    scale = 1e-9 * (pools.notional.sum() + abs(pools.alpha).sum())
    for s in range(5):
        day = tuple(drivers[name].values[s] for name in ("low", "high", "last"))
        _, out, status = run_kernel(pools, 0, paths, s, day, worst=worst)
        names = ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional")
        expected = [float(alone[name][s, 0]) for name in names]
        if status[0] == STOPPED:
            out[0, 4] = 0.0
        assert out[0].tolist() == pytest.approx(expected, abs=scale)
        assert status[0] == int(alone.outcome[s, 0])


@pytest.mark.parametrize("worst", [False, True])
@given(SEEDS, st.floats(0.0, 2.0))
@settings(max_examples=60, deadline=None)
def test_adding_collateral_never_adds_a_liquidation(worst, seed, share):
    rng = np.random.default_rng(seed)
    twin = random_pool(rng)
    frames, here = random_frames(rng, 3, spread=0.15)
    pools, day = pools_of([twin]), day_of(frames, here)
    richer = pools._replace(cash=pools.cash + share * pools.notional.sum())
    paths = paths_of([frames])
    less, more = (run_kernel(p, 0, paths, 0, day, worst=worst)[0] for p in (pools, richer))
    assert not (more & DIED and not less & DIED)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_cash_is_conserved_at_the_prices_of_the_close(seed):
    rng = np.random.default_rng(seed)
    twin = random_pool(rng, extra=False, stops=False)
    twin.positions = {
        name: (asset, replace(p, inverse=False, size=p.size / (MARK if p.inverse else 1)))
        for name, (asset, p) in twin.positions.items()
    }
    frames, here = random_frames(rng, 2, spread=0.2)
    pools, day = pools_of([twin]), day_of(frames, here)
    code, out, _ = run_kernel(pools, 0, paths_of([frames]), 0, day)
    x = out[:, 4] / pools.notional if code & DIED else day[2][pools.asset]
    moved = (pools.beta * (x - 1)).sum()
    paid = out[:, 0].sum() + out[:, 1].sum() - out[:, 2].sum() + out[:, 3].sum()
    assert paid == pytest.approx(moved, abs=1e-9 * pools.notional.sum())
    assert out[:, 0].sum() >= -(pools.alpha + pools.beta).sum() - 1e-9 * pools.notional.sum()


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_the_rule_lies_between_its_bounds(seed):
    rng = np.random.default_rng(seed)
    twin = random_pool(rng, stops=False)
    frames, here = random_frames(rng, int(rng.integers(1, 4)))
    pools, day, paths = pools_of([twin]), day_of(frames, here), paths_of([frames])
    code, _, _ = run_kernel(pools, 0, paths, 0, day)
    worst, _, _ = run_kernel(pools, 0, paths, 0, day, worst=True)
    if twin.excess(dict.fromkeys(ASSETS, 1.0)) <= 0:
        return
    packed = pack(pools)
    surely = dies_surely(packed, 0, new_state(packed, len(ASSETS)), paths, 0, 0)
    assert surely <= bool(code & DIED) <= bool(code & COULD_DIE)
    assert bool(worst & DIED) == bool(worst & COULD_DIE) == bool(code & COULD_DIE)
    if len({asset for asset, _ in twin.positions.values()}) == 1 and not twin.holdings:
        assert surely == bool(code & DIED) == bool(code & COULD_DIE)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_order_of_legs_and_of_pools_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    twins = [random_pool(rng) for _ in range(3)]
    frames, here = random_frames(rng, 2)
    paths, day = paths_of([frames]), day_of(frames, here)
    together, turned = pools_of(twins), pools_of(twins[::-1])
    for k, twin in enumerate(twins):
        alone = run_kernel(pools_of([twin]), 0, paths, 0, day)
        for pools, place in ((together, k), (turned, 2 - k)):
            code, out, status = run_kernel(pools, place, paths, 0, day)
            assert (code, status.tolist()) == (alone[0], alone[2].tolist())
            np.testing.assert_array_equal(out, alone[1])


def test_a_hedge_lives_in_a_pool_and_a_winner_dies_of_its_neighbour():
    # Two legs of one asset against each other: isolated, one of them always dies.
    long = _plain(direction=1, wallet=11.0)
    short = _plain(direction=-1, wallet=11.0)
    frames = [_one_frame({"BTC": 0.7})]
    hedged = Pool({"l": ("BTC", long), "s": ("BTC", short)}, marks=dict.fromkeys(ASSETS, MARK))
    slow, code, _, _, _ = both(hedged, frames, frames[0]["last"])
    assert not slow["died"]
    assert not code & DIED
    # A loser twenty times as large takes its neighbour's collateral with it.
    loser = _plain(direction=1, wallet=220.0, size=20.0)
    pooled = Pool({"a": ("BTC", loser), "b": ("ETH", long)}, marks=dict.fromkeys(ASSETS, MARK))
    slow, code, _, status, _ = both(pooled, frames, frames[0]["last"])
    assert slow["died"]
    assert code & DIED
    assert status.tolist() == [2, 2]


def _plain(**changes):
    values = dict(
        inverse=False, direction=1, size=1.0, entry=MARK, mark=MARK, wallet=10.0,
        tiers=((0.0, 0.01, 0.0),), fee_in_trigger=0.0, closing_fee=0.0, liquidation_fee=0.0,
        to_holder=True,
    )  # fmt: skip
    return Position(**values | changes)


def _one_frame(moved):
    last = dict.fromkeys(ASSETS, 1.0) | moved
    one = dict.fromkeys(ASSETS, 1.0)
    low = {a: min(1.0, last[a]) for a in ASSETS}
    high = {a: max(1.0, last[a]) for a in ASSETS}
    same = [(dict(low), dict(low))]
    return {"low": low, "high": high, "last": last, "falls": same, "rises": [(one, one)],
            "jumps": []}  # fmt: skip
