"""Laws 1 to 4 of the liquidation engine, on generated books and paths."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.liquidation import (
    account_losses,
    build_ladders,
    liquidation_curve,
    liquidation_probability,
    load_ladders,
    position_outcomes,
    walk,
)
from risk.schema import BOOK, CUBE
from tests.books import book_of, drivers_of, random_path, random_position
from tests.brute import live_through

seeds = st.integers(0, 2**32 - 1)


def world(seed, n_positions=40, n_paths=25, jumps=0.4, spread=0.08, steps=0.5):
    """Positions over two assets and three books, with their paths."""
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, steps=steps) for _ in range(n_positions)]
    assets = [str(a) for a in rng.choice(["BTC", "ETH"], n_positions)]
    books = [str(b) for b in rng.choice(["x", "y", "z"], n_positions)]
    paths = {
        asset: [random_path(rng, jumps=jumps, spread=spread) for _ in range(n_paths)]
        for asset in ("BTC", "ETH")
    }
    table = book_of(positions, assets, book=books)
    return positions, assets, books, paths, table


def brute_cells(positions, assets, books, paths, table, cells):
    """Sum the twin's outcomes into (scenario, cell) arrays."""
    names = list(zip(*(cells[label].to_pylist() for label in cells.column_names), strict=True))
    n = len(paths["BTC"])
    out = {name: np.zeros((n, len(names))) for name in CUBE}
    triggers, stops = table["trigger"].to_pylist(), table["stop_trigger"].to_pylist()
    for p, position in enumerate(positions):
        cell = names.index((assets[p], books[p]))
        for i in range(n):
            one = live_through(position, paths[assets[p]][i], triggers[p], stops[p])
            for name in CUBE:
                out[name][i, cell] += getattr(one, name)
    return out


@pytest.mark.parametrize("small_window", [0, 10**9])
@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_the_ladder_equals_brute_force_jumps_included(small_window, seed):
    """Law 4, with every gap looked up and with every gap closed one by one."""
    _compare(seed, small_window, n_positions=40, n_paths=25)


def _compare(seed, small_window=32, **sizes):
    positions, assets, books, paths, table = world(seed, **sizes)
    ladders = build_ladders(table, ["BTC", "ETH"], ["asset", "book"])
    cube = walk(ladders, drivers_of(paths), small_window=small_window)
    brute = brute_cells(positions, assets, books, paths, table, ladders.cells)
    gross = sum(np.abs(table[name].to_numpy()).sum() for name in ("notional_usd", "equity_usd"))
    for name in CUBE:
        if name in ("liquidations", "stops"):
            np.testing.assert_array_equal(cube[name].values, brute[name])
        else:
            assert np.abs(cube[name].values - brute[name]).max() <= 1e-9 * gross, name
    return cube


def test_every_way_is_really_taken():
    cube = _compare(5, n_positions=2500, n_paths=40, spread=0.25, steps=0.3)
    assert cube.attrs["positions_lived_again"] > 50
    assert cube.attrs["windows_looked_up"] > 50
    assert cube.attrs["windows_one_by_one"] > 50


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_the_holder_never_loses_more_than_its_equity(seed):
    """Law 1, per position: the loss is capped at the collateral's value, coin moves included."""
    *_, paths, table = world(seed)
    out = position_outcomes(table, drivers_of(paths))
    equity = table["equity_usd"].to_numpy()[out.row.values]
    final = out.pnl.values + equity
    closed = out.outcome.values > 0
    assert (final[closed] >= -1e-9 * equity.max()).all()


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_cash_is_conserved_per_position_and_scenario(seed):
    """Law 3: holder + venue - deficit + cost is what the moves earned while it was open."""
    positions, assets, _, paths, table = world(seed)
    drivers = drivers_of(paths)
    out = position_outcomes(table, drivers)
    triggers, stops = table["trigger"].to_pylist(), table["stop_trigger"].to_pylist()
    total = (out.pnl + out.venue_gain - out.deficit + out.market_cost).values
    for p, position in enumerate(positions):
        for i, path in enumerate(paths[assets[p]]):
            drift = live_through(position, path, triggers[p], stops[p]).drift
            gross = abs(table["exposure_usd"][p].as_py()) + position.value(1.0)
            assert total[i, p] == pytest.approx(drift, abs=1e-9 * gross)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_removing_a_position_leaves_the_others_unchanged(seed):
    """Law 2."""
    *_, paths, table = world(seed)
    drivers = drivers_of(paths)
    whole = position_outcomes(table, drivers)
    keep = [i for i in range(table.num_rows) if i != seed % table.num_rows]
    part = position_outcomes(table.take(keep), drivers)
    for name in whole.data_vars:
        np.testing.assert_array_equal(part[name].values, whole[name].values[:, keep])


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_cells_are_the_sums_of_their_positions(seed):
    *_, paths, table = world(seed)
    drivers = drivers_of(paths)
    ladders = build_ladders(table, ["BTC", "ETH"], ["venue"])
    cube, out = walk(ladders, drivers), position_outcomes(table, drivers)
    gross = table["notional_usd"].to_numpy().sum()
    for name in ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional"):
        total = out[name].sum("position").values
        assert np.abs(cube[name].values[:, 0] - total).max() <= 1e-9 * gross
    np.testing.assert_array_equal(cube.liquidations[:, 0], (out.outcome == 2).sum("position"))


def test_no_shock_is_no_pnl():
    *_, table = world(3)
    still = drivers_of({a: [[("drift", 1.0)]] for a in ("BTC", "ETH")})
    cube = walk(build_ladders(table, ["BTC", "ETH"], ["asset", "book"]), still)
    assert all((cube[name] == 0).all() for name in CUBE)


def test_the_order_of_rows_does_not_change_a_byte(tmp_path):
    *_, paths, table = world(11, n_positions=200)
    ladders = build_ladders(table, ["BTC", "ETH"], ["asset", "book"])
    ladders.save(tmp_path / "ladders")
    again = load_ladders(tmp_path / "ladders")
    drivers = drivers_of(paths)
    for name in CUBE:
        assert walk(ladders, drivers)[name].values.tobytes() == (
            walk(again, drivers)[name].values.tobytes()
        )


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_probability_is_the_share_of_paths_that_liquidate(seed):
    *_, paths, table = world(seed)
    drivers = drivers_of(paths)
    share = (position_outcomes(table, drivers).outcome == 2).mean("scenario").values
    np.testing.assert_allclose(liquidation_probability(table, drivers), share, atol=1e-12)


def test_accounts_add_up_to_the_cube():
    *_, paths, table = world(21, n_positions=100)
    index = table.schema.get_field_index("account")
    names = pa.array([f"a{i % 7}" for i in range(table.num_rows)])
    table = table.set_column(index, BOOK.field(index), names.cast(BOOK.field(index).type))
    drivers = drivers_of(paths)
    losses = account_losses(table, drivers).to_pandas().groupby("scenario")
    cube = walk(build_ladders(table, ["BTC", "ETH"], ["venue"]), drivers)
    np.testing.assert_allclose(losses.pnl_usd.sum(), cube.pnl[:, 0], rtol=1e-9)
    np.testing.assert_allclose(losses.deficit_usd.sum(), cube.deficit[:, 0], atol=1e-6)


def test_the_curve_counts_what_a_steady_fall_liquidates():
    *_, table = world(8, n_positions=300)
    moves = [-0.4, -0.1, 0.0, 0.1, 0.4]
    curve = liquidation_curve(table, ["BTC", "ETH"], moves)
    for j, move in enumerate(moves):
        steady = drivers_of({a: [[("drift", 1.0 + move)]] for a in ("BTC", "ETH")})
        cube = walk(build_ladders(table, ["BTC", "ETH"], ["asset"]), steady)
        np.testing.assert_array_equal(curve.liquidations[:, j], cube.liquidations[0])
        np.testing.assert_allclose(
            curve.liquidated_notional[:, j], cube.liquidated_notional[0], rtol=1e-12
        )


def test_a_deficit_needs_a_gap():
    """Diffusion closes at the trigger; only a jump past bankruptcy costs the venue."""
    *_, table = world(4)
    drift = drivers_of({a: [[("drift", 0.5)]] for a in ("BTC", "ETH")})
    jump = drivers_of({a: [[("jump", 0.5)]] for a in ("BTC", "ETH")})
    ladders = build_ladders(table, ["BTC", "ETH"], ["venue"])
    assert walk(ladders, jump).deficit.sum() > 100 * walk(ladders, drift).deficit.sum()
