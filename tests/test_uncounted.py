"""Pools that nobody counts, and holders in one pass: quick ways to what the slow ways say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.block import OPTIONS, POOLS
from risk.liquidation import (
    account_losses,
    position_outcomes,
    square_root_impact,
    uncounted_outcomes,
)
from risk.liquidation.cross import pool_outcomes, read_pools, save_outcomes, take_outcomes
from risk.liquidation.cross.calm import find_calm
from risk.liquidation.cross.reach import find_slopes
from risk.liquidation.options import read_options, save_valued, take_valued, value_options
from risk.pipeline.files import pooled_outcomes, valued_options
from risk.scenarios.grids import move_drivers
from tests.books import random_position
from tests.option_books import book_of, record_of
from tests.pools import ASSETS, MARK
from tests.test_cross_book import bars_of, cross_twin, table_of
from tests.test_options_walk import a_book

SEEDS = st.integers(0, 2**32 - 1)


def pools_of(rng, n=6, *, cost=0.0):
    """Pools, some of positions without stops; closing may cost more than is required."""
    twins = [cross_twin(rng, stops=bool(k % 2)) for k in range(n)]
    book = table_of(twins)
    daily, usd = np.full(len(ASSETS), 0.05), np.full(len(ASSETS), 1e6)
    impact = square_root_impact(daily, usd, coefficient=cost) if cost else None
    return read_pools(book, list(ASSETS), impact)


def falls_and_rises(gap):
    """Straight moves of all assets, from one bound to the other."""
    moves = np.repeat(np.linspace(-0.6, 1.2, 19)[:, None], len(ASSETS), axis=1)
    moves[::3, 0] *= -0.4
    label = [str(i) for i in range(len(moves))]
    return move_drivers(ASSETS, moves, gap=gap, label=label)


def same(found, expected, kept=slice(None)):
    for name in ("scenario", "leg", "amounts", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[kept], name)


@given(seed=SEEDS, cost=st.sampled_from([0.0, 0.5, 20.0]), gap=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_a_life_that_is_not_counted_is_the_life_that_is(seed, cost, gap):
    """To the last bit; where the deficits alone are wanted, of the pools that have one."""
    rng = np.random.default_rng(seed)
    pools = pools_of(rng, cost=cost)
    for drivers in (bars_of(rng, 6)[1], falls_and_rises(gap)):
        expected = pool_outcomes(pools, drivers)
        found = uncounted_outcomes(pools, drivers)
        same(found, expected)
        assert (found.counts == -1).all()
        short = uncounted_outcomes(pools, drivers, only_deficits=True)
        same(short, expected, expected.amounts[:, 2] != 0.0)


def test_most_dead_pools_need_no_life_and_some_still_have_a_deficit():
    """The quick way is really taken, and what it may not decide is left to the kernel."""
    pools = pools_of(np.random.default_rng(5), 40)
    calm = find_calm(pools, find_slopes(pools)).is_calm
    assert 0 < calm.sum() < 40
    expected = pool_outcomes(pools, falls_and_rises(0.3))
    pool = np.searchsorted(pools.start, expected.leg, side="right") - 1
    dead = np.unique(np.stack([expected.scenario, pool])[:, calm[pool]], axis=1).shape[1]
    short = np.flatnonzero(calm[pool] & (expected.amounts[:, 2] > 0))
    owing = np.unique(np.stack([expected.scenario, pool])[:, short], axis=1).shape[1]
    assert 0 < owing < dead / 2


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_an_account_loses_what_its_positions_lose(seed):
    """Positions closed whole, cut in steps and in pools, at two venues, a lost peg and none."""
    rng = np.random.default_rng(seed)
    alone = [random_position(rng, mark=MARK, steps=0.5) for _ in range(25)]
    book = table_of([cross_twin(rng) for _ in range(3)], alone)
    names = [f"a{i}" for i in rng.integers(0, 8, book.num_rows)]
    venues = [str(v) for v in rng.choice(["north", "south"], book.num_rows)]
    # A pool lies at one venue: its accounts stay as they are.
    kept = book["pool_holdings"].is_valid().to_pylist()
    names = [
        a if k else n for a, k, n in zip(book["account"].to_pylist(), kept, names, strict=True)
    ]
    venues = ["north" if k else v for k, v in zip(kept, venues, strict=True)]
    for name, values in (("account", names), ("venue", venues)):
        at = book.schema.get_field_index(name)
        book = book.set_column(at, name, pa.array(values).dictionary_encode())
    drivers = bars_of(rng, 5)[1]
    pegged = drivers.assign(peg=(("scenario", "settle"), np.full((5, 1), 0.9))).assign_coords(
        settle=np.array(["USDT"], object)
    )
    for record in (drivers, pegged):
        out = position_outcomes(book, record)
        rows = account_losses(book, record).to_pylist()
        place = {(row["scenario"], row["account"], row["venue"]): row for row in rows}
        assert len(place) == len(rows)
        assert list(place) == sorted(place)
        for i in range(5):
            sums: dict = {}
            for p, row in enumerate(out.row.values.tolist()):
                one = sums.setdefault((i, names[row], venues[row]), [0.0, 0.0, 0])
                one[0] += float(out.pnl.values[i, p])
                one[1] += float(out.deficit.values[i, p])
                one[2] += int(out.outcome.values[i, p] == 2)
            for key, (pnl, deficit, liquidations) in sums.items():
                row = place[key]
                assert (row["pnl_usd"], row["deficit_usd"], row["liquidations"]) == (
                    pnl, deficit, liquidations,
                )  # fmt: skip


INDEX = np.array([0, 3, 4, 11, 12, 35])


def test_the_blocks_of_some_scenarios_say_of_pools_what_all_blocks_say(tmp_path):
    rng = np.random.default_rng(8)
    pools = pools_of(rng)
    for block in range(3):
        save_outcomes(
            tmp_path / POOLS, f"drawn-{block:06d}", pool_outcomes(pools, bars_of(rng, 12)[1])
        )
    whole = pooled_outcomes(tmp_path, "drawn")
    some = pooled_outcomes(tmp_path, "drawn", INDEX)
    assert len(some.scenario)
    for found, expected in zip(some, take_outcomes(whole, INDEX), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert pooled_outcomes(tmp_path, "historical", INDEX) is None


def test_the_blocks_of_some_scenarios_say_of_options_what_all_blocks_say(tmp_path):
    holdings, assets, books, _ = a_book(4)
    contracts = read_options(book_of(holdings, assets, book=books), ["BTC", "ETH"])[0]
    for block in range(3):
        record = record_of(a_book(10 + block)[3])
        save_valued(tmp_path / OPTIONS, f"drawn-{block:06d}", value_options(contracts, record))
    whole = valued_options(tmp_path, "drawn")
    some = valued_options(tmp_path, "drawn", INDEX)
    assert len(some.scenario)
    for found, expected in zip(some, take_valued(whole, INDEX), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert valued_options(tmp_path, "historical", INDEX) is None
