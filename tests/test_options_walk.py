"""Option ladders against brute force, and the laws they keep."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.liquidation import build_ladders, load_ladders, walk
from tests.brute_options import Holding, live
from tests.option_books import book_of, random_holding, random_option, random_paths, record_of

NAMES = {"pnl": "pnl", "venue_gain": "venue_gain", "deficit": "deficit",
         "market_cost": "market_cost", "liquidated_notional": "notional"}  # fmt: skip


def a_book(seed, n_contracts=6, n_positions=60, n_paths=12, steps=8):
    """Contracts on two assets, positions in them, and paths."""
    rng = np.random.default_rng(seed)
    options = [random_option(rng) for _ in range(n_contracts)]
    asset = ["BTC" if rng.integers(2) else "ETH" for _ in options]
    which = rng.integers(n_contracts, size=n_positions)
    holdings = [random_holding(rng, options[k]) for k in which]
    book = [str(rng.integers(2)) for _ in holdings]
    paths = {name: random_paths(rng, n_paths, steps) for name in ("BTC", "ETH")}
    return holdings, [asset[k] for k in which], book, paths


def gross_of(holdings):
    to_usd = [h.option.index if h.option.inverse else 1.0 for h in holdings]
    worth = [h.collateral + h.units * h.option.mark() for h in holdings]
    return float(np.dot(to_usd, worth)) + sum(h.units * h.option.index for h in holdings)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_option_ladders_equal_brute_force(seed: int) -> None:
    holdings, assets, books, paths = a_book(seed)
    table = book_of(holdings, assets, book=books)
    cube = walk(build_ladders(table, ["BTC", "ETH"], ["asset", "book"]), record_of(paths))
    tolerance = 1e-9 * gross_of(holdings)
    ladders = build_ladders(table, ["BTC", "ETH"], ["asset", "book"])
    cells = ladders.cells.to_pylist()
    for i in range(cube.sizes["scenario"]):
        for c, cell in enumerate(cells):
            mine = [
                live(held, paths[asset][i])
                for held, asset, name in zip(holdings, assets, books, strict=True)
                if (asset, name) == (cell["asset"], cell["book"])
            ]
            for variable, name in NAMES.items():
                found = cube[variable].values[i, c]
                assert found == pytest.approx(sum(one[name] for one in mine), abs=tolerance)
            hit = sum(one["liquidated"] for one in mine)
            assert cube["liquidations"].values[i, c] == hit
            assert cube["stops"].values[i, c] == 0


def test_some_writers_are_closed_some_are_bankrupt_and_some_live_on() -> None:
    outcomes = []
    for seed in range(5):
        holdings, assets, _, paths = a_book(seed)
        outcomes += [
            live(held, path) | {"short": held.short}
            for held, asset in zip(holdings, assets, strict=True)
            for path in paths[asset]
        ]
    assert not any(one["liquidated"] for one in outcomes if not one["short"])
    written = [one for one in outcomes if one["short"]]
    assert 0.02 < np.mean([one["liquidated"] for one in written]) < 0.9
    assert sum(one["deficit"] > 0 for one in written) > 20
    assert sum(one["liquidated"] and one["deficit"] == 0 for one in written) > 20


def test_saved_option_ladders_are_the_ones_that_were_built(tmp_path) -> None:
    holdings, assets, books, paths = a_book(3)
    ladders = build_ladders(book_of(holdings, assets, book=books), ["BTC", "ETH"], ["book"])
    ladders.save(tmp_path)
    drivers = record_of(paths)
    assert walk(load_ladders(tmp_path), drivers).equals(walk(ladders, drivers))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_bought_option_loses_at_most_its_premium_and_owes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    held = Holding(random_option(rng), False, float(rng.lognormal(0, 2)))
    paths = {"BTC": random_paths(rng, 50, 6, spread=0.3)}
    cube = walk(build_ladders(book_of([held], ["BTC"]), ["BTC"], ["asset"]), record_of(paths))
    worth = held.units * held.option.mark() * (held.option.index if held.option.inverse else 1)
    assert (cube["pnl"].values >= -worth * (1 + 1e-12)).all()
    for name in ("deficit", "venue_gain", "market_cost", "liquidations"):
        assert not cube[name].values.any()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_writer_never_loses_more_than_its_equity_and_cash_is_conserved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    option = replace(random_option(rng), inverse=False)
    held = random_holding(rng, option)
    held = Holding(option, True, held.units, held.units * option.needed(option.mark(), 1.0) * 1.1)
    paths = random_paths(rng, 50, 6, spread=0.2)
    ladders = build_ladders(book_of([held], ["BTC"]), ["BTC"], ["asset"])
    cube = walk(ladders, record_of({"BTC": paths})).isel(cell=0)
    equity = held.collateral - held.units * option.mark()
    gross = held.collateral + held.units * option.index
    assert (cube["pnl"].values >= -equity - 1e-9 * gross).all()
    # What the writer pays to close is what the option is worth then, to the cent.
    for i, path in enumerate(paths):
        one = live(held, path)
        total = sum(float(cube[name][i]) for name in ("pnl", "venue_gain", "market_cost"))
        total -= float(cube["deficit"][i])
        if not one["liquidated"]:
            continue
        at = next(
            option.mark(ratio, multiple, elapsed)
            for elapsed, ratio, multiple in path
            if held.collateral / held.units
            <= (
                option.needed(option.mark(ratio, multiple, elapsed), ratio)
                if elapsed < option.years
                else option.mark(ratio, multiple, elapsed)
            )
        )
        assert total == pytest.approx(held.units * (option.mark() - at), abs=1e-9 * gross)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_more_collateral_never_liquidates_a_writer_sooner(seed: int) -> None:
    rng = np.random.default_rng(seed)
    option = random_option(rng)
    paths = record_of({"BTC": random_paths(rng, 40, 6, spread=0.1)})
    needed = option.needed(option.mark(), 1.0)
    counts = []
    for more in (1.001, 1.05, 1.2, 2.0):
        book = book_of([Holding(option, True, 3.0, 3.0 * needed * more)], ["BTC"])
        counts.append(walk(build_ladders(book, ["BTC"], ["asset"]), paths)["liquidations"].values)
    for less, more in pairwise(counts):
        assert (more <= less).all()


def test_the_order_of_rows_and_contracts_and_the_split_of_work_change_no_byte() -> None:
    holdings, assets, books, paths = a_book(11)
    drivers = record_of(paths)
    table = book_of(holdings, assets, book=books)
    whole = walk(build_ladders(table, ["BTC", "ETH"], ["book"]), drivers)
    parts = [
        walk(build_ladders(table, ["BTC", "ETH"], ["book"]), drivers.isel(scenario=slice(a, a + 4)))
        for a in range(0, 12, 4)
    ]
    turned = walk(
        build_ladders(table.take(list(range(len(table)))[::-1]).sort_by("position_id"),
                      ["BTC", "ETH"], ["book"]), drivers
    )  # fmt: skip
    for name in whole:
        joined = np.concatenate([part[name].values for part in parts])
        assert joined.tobytes() == whole[name].values.tobytes()
        assert turned[name].values.tobytes() == whole[name].values.tobytes()


def test_without_a_shock_and_without_time_there_is_no_gain() -> None:
    holdings, assets, books, _ = a_book(5)
    still = {name: [[(0.0, 1.0, 1.0)] * 3] for name in ("BTC", "ETH")}
    ladders = build_ladders(book_of(holdings, assets, book=books), ["BTC", "ETH"], ["book"])
    cube = walk(ladders, record_of(still))
    assert np.abs(cube["pnl"].values).max() <= 1e-12 * gross_of(holdings)
    assert not cube["liquidations"].values.any()
