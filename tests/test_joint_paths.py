"""The steps of Monte Carlo paths: the very paths whose extremes and ends the night keeps."""

from __future__ import annotations

import numpy as np
import pytest

from risk.liquidation import position_outcomes
from risk.scenarios.monte_carlo import draw_block
from tests.books import book_of, random_position
from tests.cross_twin import Pool
from tests.pools import MARK, pools_of, run_kernel
from tests.test_monte_carlo import model

N = 300


@pytest.fixture(scope="module")
def drawn():
    tiles = []
    settings = dict(seed=5, set_code=2, block=1, n=N, steps=12, horizon_days=1)
    busy = model(common_intensity=2.0, own_intensity=1.0)
    record = draw_block(busy, **settings, watch=lambda first, paths: tiles.append((first, paths)))
    return draw_block(busy, **settings), record, tiles


def test_watching_changes_no_draw(drawn):
    plain, watched, _ = drawn
    assert plain.identical(watched)


def test_the_extremes_and_ends_of_the_steps_are_those_of_the_day(drawn):
    record, _, tiles = drawn
    assert [first for first, _ in tiles] == [0, 256]
    low, high, last = (np.concatenate([getattr(p, n) for _, p in tiles]) for n in
                       ("low", "high", "last"))  # fmt: skip
    n_steps = low.shape[1]
    assert low.shape == (N, 12, record.sizes["asset"])
    ends = last[:, -1].copy()
    for first, paths in tiles:
        for s in range(len(paths.low)):
            here = np.ones(low.shape[2])
            for f in range(n_steps):
                # A step begins where the one before, jumps included, has ended.
                assert (paths.low[s, f] <= here * (1 + 1e-12)).all()
                assert (paths.high[s, f] >= here * (1 - 1e-12)).all()
                here = paths.last[s, f].copy()
                place = s * n_steps + f
                for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
                    moved = slice(paths.jump_start[g], paths.jump_start[g + 1])
                    assets = paths.jump_asset[moved]
                    assert (np.diff(assets) > 0).all()
                    here[assets] = paths.jump_to[moved]
                    low[first + s, f] = np.minimum(low[first + s, f], here)
                    high[first + s, f] = np.maximum(high[first + s, f], here)
            ends[first + s] = here
    np.testing.assert_allclose(ends, record["last"].values, rtol=1e-12)
    np.testing.assert_allclose(low.min(1), record.low.values, rtol=1e-12)
    np.testing.assert_allclose(high.max(1), record.high.values, rtol=1e-12)


def test_a_pool_of_one_position_on_the_steps_is_the_isolated_position_on_the_day(drawn):
    _, record, tiles = drawn
    rng = np.random.default_rng(3)
    positions = [random_position(rng, mark=MARK) for _ in range(12)]
    alone = position_outcomes(book_of(positions, assets=["A1"] * 12), record)
    first, paths = tiles[1]
    hit = 0
    for p, position in enumerate(positions):
        twin = Pool({"p": ("BTC", position)}, to_holder=position.to_holder, marks={"BTC": MARK})
        pools = pools_of([twin])  # BTC and A1 are both asset 1
        for s in range(len(paths.low)):
            day = tuple(record[name].values[first + s] for name in ("low", "high", "last"))
            _, out, status = run_kernel(pools, 0, paths, s, day)
            expected = [
                float(alone[name][first + s, p]) for name in ("pnl", "deficit", "venue_gain")
            ]
            scale = pools.notional.sum() + abs(pools.alpha).sum()
            assert out[0, [0, 2, 1]].tolist() == pytest.approx(expected, abs=1e-9 * scale)
            assert status[0] == int(alone.outcome[first + s, p])
            hit += status[0] == 2
    assert hit > 20
