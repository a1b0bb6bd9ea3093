"""Isolated positions whose funding is too large to fold: pools of one, exactly, and which."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.coverage import methods
from risk.liquidation import build_ladders, position_outcomes, position_tails, walk
from risk.liquidation.cross import leg_outcomes, live_pools, read_pools
from risk.margin.pooling import APART, folded, rows_apart
from risk.margin.slopes import requirement_slopes
from risk.pipeline.apart import mark_apart
from risk.schema import CONTRACTS
from tests.books import book_of, drivers_of, random_path, random_position
from tests.cross_twin import Pool, live_pool
from tests.makers import AS_OF, contract, position
from tests.pools import ASSETS, MARK, paths_of
from tests.test_cross_book import in_a_day
from tests.test_cross_carry import (
    contract_of,
    drawn_frames,
    random_turns,
    record_on,
    told,
    with_rides,
)

SEEDS = st.integers(0, 2**32 - 1)
VARIABLES = ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional")


def apart(book, rows):
    """The book with these rows marked."""
    marked = np.zeros(book.num_rows, bool)
    marked[rows] = True
    return book.append_column(APART, pa.array(marked))


def perpetuals(positions, assets):
    kinds = [("inverse" if p.inverse else "linear") + "_perpetual" for p in positions]
    found = [contract_of(asset, kind) for asset, kind in zip(assets, kinds, strict=True)]
    book = book_of(
        positions, assets=assets, kind=kinds, settle=[one[0] for one in found],
        symbol=[one[1] for one in found], account=["same"] * len(positions),
    )  # fmt: skip
    return book, [one[2] for one in found]


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_positions_apart_pay_their_funding_as_the_twin_does(seed):
    """Marks, tiers, stops, fees, linear and inverse: all amounts, although one account has all."""
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, mark=MARK, steps=0.0) for _ in range(4)]
    assets = [str(rng.choice(ASSETS)) for _ in positions]
    book, own = perpetuals(positions, assets)
    kept = [i for i, p in enumerate(positions) if p.excess(MARK) > 0]
    book = apart(book, kept).take(pa.array(kept))
    frames, here = drawn_frames(rng, 6)
    names = sorted(set(own))
    turns = random_turns(rng, frames, names)
    paths, last = with_rides(paths_of([frames]), frames, turns, names)
    record = record_on(names, np.array([here[a] for a in ASSETS]), last)
    pools = read_pools(book, [*ASSETS, *names])
    rows, amounts, status = leg_outcomes(pools, record, live_pools(pools, paths))
    assert rows.tolist() == list(range(len(kept)))
    for place, i in enumerate(kept):
        one = positions[i]
        twin = Pool({"p": (assets[i], one)}, [], 0.0, one.to_holder, dict.fromkeys(ASSETS, MARK))
        slow = live_pool(twin, told(frames, turns, {"p": own[i]}), ASSETS, here, worst=True)
        scale = 1e-9 * (book["notional_usd"][place].as_py() + book["equity_usd"][place].as_py())
        found = amounts[:, 0, place]
        for value, name in ((found[0], "pnl"), (found[1], "venue_gain"), (found[2], "deficit")):
            assert value == pytest.approx(slow[name], abs=scale), name
        assert found[3] == pytest.approx(twin.costs["p"], abs=scale)
        assert found[4] == pytest.approx(twin.closed["p"], abs=scale)
        assert status[0, place] == (1 if twin.stops else 2 if slow["died"] else 0)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_without_funding_a_position_apart_is_the_folded_one(seed):
    """In the cube, in the tails, with its neighbours folded: which way one goes changes nobody."""
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, mark=MARK, steps=0.0) for _ in range(6)]
    drivers = drivers_of({"BTC": [random_path(rng) for _ in range(8)]})
    book = book_of(positions, account=["same"] * 6)
    chosen = apart(book, [0, 2, 3])
    scale = 1e-9 * (book["notional_usd"].to_numpy() + book["equity_usd"].to_numpy())
    one, other = (position_outcomes(some, drivers) for some in (book, chosen))
    order = np.argsort(other.row.values)
    for name in VARIABLES:
        mine = other[name].values[:, order]
        stopped = one.outcome.values == 1
        expected = one[name].values
        if name == "liquidated_notional":
            expected = np.where(stopped, 0.0, expected)
        assert (np.abs(mine - expected) <= scale).all(), name
    np.testing.assert_array_equal(one.outcome.values, other.outcome.values[:, order])
    np.testing.assert_array_equal(
        one.pnl.values[:, [1, 4, 5]], other.pnl.values[:, order[[1, 4, 5]]]
    )
    cubes = [walk(build_ladders(b, ["BTC"], ["account"], 10), drivers) for b in (book, chosen)]
    for name in ("pnl", "venue_gain", "deficit", "market_cost"):
        apart_by = np.abs(cubes[0][name].values - cubes[1][name].values)
        assert apart_by.max() <= scale.sum(), name
    np.testing.assert_array_equal(cubes[0].liquidations.values, cubes[1].liquidations.values)
    tails = [position_tails(b, drivers) for b in (book, chosen)]
    for name in tails[0].data_vars:
        np.testing.assert_allclose(tails[1][name], tails[0][name], atol=scale.max(), rtol=1e-9)


def test_positions_apart_are_counted_and_can_be_folded_back():
    rng = np.random.default_rng(2)
    positions = [replace(random_position(rng, mark=MARK, steps=0.0), stop=None) for _ in range(5)]
    book = book_of(positions)
    gross = pa.array(np.ones(5))
    chosen = apart(book, [1, 4]).append_column("gross_notional_usd", gross)
    assert rows_apart(chosen).tolist() == [1, 4]
    assert not len(rows_apart(folded(chosen)))
    counted = {row["method"]: row["n_positions"] for row in
               methods(chosen, np.empty(0, "i8")).to_pylist()}  # fmt: skip
    assert counted == {"ladder": 3, "steps": 0, "options": 0, "pools": 0, "apart": 2}


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_slope_of_a_requirement_is_that_of_the_twin_at_its_trigger(seed):
    rng = np.random.default_rng(seed)
    one = random_position(rng, mark=MARK, steps=0.0)
    slope = requirement_slopes(book_of([one]))[0]
    fee = 0.0 if one.fee_at_bankruptcy else one.fee_in_trigger
    level = one.trigger()
    values = [one.value(MARK)] + ([one.value(level)] if level is not None else [])
    rate = max(max(r for floor, r, _ in one.tiers if floor < v or floor == 0) for v in values)
    assert slope == pytest.approx(fee + (0.0 if one.entry_basis else rate))


def night_of(tmp_path, **carry):
    """As much of a night as the choice looks at."""
    values = {"funding": True, "fold_below": 1e-5} | carry
    scenarios = SimpleNamespace(carry=SimpleNamespace(**values), names=("historical", "stress"))
    config = SimpleNamespace(
        scenarios=scenarios, liquidation=SimpleNamespace(cascade=None), history=tmp_path,
        horizon_days=1,
    )  # fmt: skip
    return SimpleNamespace(config=config, folder=tmp_path, as_of=AS_OF)


def test_the_choice_is_each_positions_own(tmp_path):
    """Law 2, for the method: rate times tonight's funding, whoever else is in the book."""
    symbols = ["BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDT:USDT-251226", "ETH/USDT:USDT"]
    rows = [
        position(symbol=symbol, side=side, position_margin=1e7, position_id=f"{symbol} {side}")
        for symbol in symbols
        for side in ("long", "short")
    ]
    listed = [contract(symbol) for symbol in symbols]
    for one in listed:
        one["funding_rate"] = {"BTC": -1e-3, "ETH": 1e-6}[one["base"]]
    contracts = pa.Table.from_pylist(listed, schema=CONTRACTS)
    book = in_a_day(*rows)
    assert book["status"].to_pylist() == ["ok"] * len(rows)
    chosen = mark_apart(night_of(tmp_path), book, contracts)
    symbol = np.array(book["symbol"].to_pylist())
    is_mine = np.array([name.startswith("BTC") and "-" not in name for name in symbol])
    slope = requirement_slopes(book)
    np.testing.assert_array_equal(chosen[APART].to_numpy(), is_mine & (slope * 3e-3 >= 1e-5))
    assert chosen[APART].to_numpy().sum() == 4
    for gone in range(len(rows)):
        kept = np.delete(np.arange(len(rows)), gone)
        fewer = mark_apart(night_of(tmp_path), book.take(pa.array(kept)), contracts)
        np.testing.assert_array_equal(fewer[APART].to_numpy(), chosen[APART].to_numpy()[kept])
    for never in ({"fold_below": None}, {"funding": False}):
        assert not len(rows_apart(mark_apart(night_of(tmp_path, **never), book, contracts)))
    none = mark_apart(night_of(tmp_path, fold_below=0.5), book, contracts)
    assert not len(rows_apart(none))
