"""A book's own cross-margined positions: in the margin table, in the cube, one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.coverage import mark_unpriced
from risk.drivers import make_drivers
from risk.liquidation import (
    account_losses,
    build_ladders,
    liquidation_probability,
    load_ladders,
    position_outcomes,
    position_tails,
    walk,
)
from risk.liquidation.cross import (
    load_results,
    pool_outcomes,
    read_pools,
    save_outcomes,
    take_outcomes,
)
from risk.liquidation.cross.outcomes import results_of
from risk.margin.book import build_book, margin_table
from risk.margin.excess import pool_figures
from risk.margin.pooling import Holding, build_pools, divided_equity, holdings_text, pooled_rows
from risk.margin.venues import VenueRules
from risk.measures import expected_shortfall, value_at_risk
from risk.schema import ACCOUNTS, CONTRACTS, GAPS, POSITIONS, TIERS
from risk.snapshot import load_snapshot
from tests.books import book_of, drivers_of, random_path, random_position
from tests.cross_twin import Pool, live_pool
from tests.makers import AS_OF, RULES, contract, position, tier_table, write_snapshot
from tests.pools import ASSETS, MARK, random_frames, random_pool

SEEDS = st.integers(0, 2**32 - 1)
VARIABLES = ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional")


def cross_twin(rng, *, stops=True, **wanted):
    """A twin pool whose positions have no collateral of their own, as cross rows have none."""
    drawn = random_pool(rng, stops=stops, **wanted)
    cash, positions = drawn.cash, {}
    for name, (asset, one) in drawn.positions.items():
        cash += one.wallet * (MARK if one.inverse else 1.0)
        positions[name] = (asset, replace(one, wallet=0.0))
    return Pool(positions, drawn.holdings, cash, drawn.to_holder, drawn.marks)


def table_of(twins, isolated=()):
    """The book of some pools, account by account, and of isolated BTC positions behind them."""
    flat = [
        (f"a{k}", asset, one)
        for k, twin in enumerate(twins)
        for asset, one in twin.positions.values()
    ]
    # The twin of an isolated book looks for triggers, which a position without collateral has not.
    healthy = [replace(one, wallet=one.value(MARK)) for _, _, one in flat]
    n = len(isolated)
    book = book_of(
        [*healthy, *isolated],
        assets=[asset for _, asset, _ in flat] + ["BTC"] * n,
        account=[account for account, _, _ in flat] + [f"i{i}" for i in range(n)],
    )
    texts = [holdings_of(twins[int(account[1:])]) for account, _, _ in flat] + [None] * n
    usd = [one.mark if one.inverse else 1.0 for _, _, one in flat]
    gained = [
        one.profit(one.size, MARK) * unit for (_, _, one), unit in zip(flat, usd, strict=True)
    ]
    exposure = [
        one.direction * one.value(MARK) * unit + (gain if one.inverse else 0.0)
        for (_, _, one), unit, gain in zip(flat, usd, gained, strict=True)
    ]
    stops = [None if one.stop is None else one.stop / one.mark for _, _, one in flat]
    for name, values in (
        ("pool_holdings", texts),
        ("exposure_usd", exposure + book["exposure_usd"].to_pylist()[len(flat) :]),
        ("trigger", [None] * len(flat) + book["trigger"].to_pylist()[len(flat) :]),
        ("stop_trigger", stops + book["stop_trigger"].to_pylist()[len(flat) :]),
    ):
        at = book.schema.get_field_index(name)
        field = book.schema.field(at)
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        book = book.set_column(at, field, pa.array(values, plain).cast(field.type))
    return book


def holdings_of(twin):
    coins = [Holding(one.asset, one.amount * MARK, one.haircut) for one in twin.holdings]
    return holdings_text([Holding(None, twin.cash, 0.0), *coins])


def bars_of(rng, n):
    """Days as frames for the twin and as a driver record: with gaps, without jumps."""
    days = [random_frames(rng, 1, jumps=False, spread=0.12) for _ in range(n)]
    states = [
        np.array([[frames[0][name][a] for a in ASSETS] for frames, _ in days])
        for name in ("low", "high", "last")
    ]
    states[0], states[1] = np.minimum(states[0], 1.0), np.maximum(states[1], 1.0)
    rows = []
    for s, (frames, _) in enumerate(days):
        for name, direction in (("falls", -1), ("rises", 1)):
            for before, landing in frames[0][name]:
                rows += [
                    (s, a, direction, before[asset], landing[asset])
                    for a, asset in enumerate(ASSETS)
                    if (landing[asset] - before[asset]) * direction > 0
                ]
    columns = np.array(rows, "f8").reshape(-1, len(GAPS)).T
    drivers = make_drivers(
        *states, assets=ASSETS, label=[str(i) for i in range(n)], source=["drawn"] * n,
        gaps=dict(zip(GAPS, columns, strict=True)),
    )  # fmt: skip
    return days, drivers


def fresh(twin):
    return Pool(twin.positions, twin.holdings, twin.cash, twin.to_holder, twin.marks)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_cube_holds_what_the_twin_says_of_every_pool(seed):
    rng = np.random.default_rng(seed)
    twins = [cross_twin(rng) for _ in range(3)]
    days, drivers = bars_of(rng, 4)
    isolated = [random_position(rng, mark=MARK) for _ in range(2)]
    book = table_of(twins, isolated)
    ladders = build_ladders(book, list(ASSETS), ["account"], 10)
    cube = walk(ladders, drivers)
    place = {name: i for i, name in enumerate(ladders.cells["account"].to_pylist())}
    for k, twin in enumerate(twins):
        if fresh(twin).excess(dict.fromkeys(ASSETS, 1.0)) <= 0:
            continue
        for s, (frames, last) in enumerate(days):
            lived = fresh(twin)
            slow = live_pool(lived, frames, ASSETS, last, worst=True)
            slow["market_cost"] = sum(lived.costs.values())
            slow["liquidated_notional"] = sum(lived.closed.values())
            one = cube.isel(scenario=s, cell=place[f"a{k}"])
            scale = 1e-9 * (sum(map(abs, lived.closed.values())) + abs(twin.cash) + sum(
                p.value(MARK) * (MARK if p.inverse else 1) for _, p in twin.positions.values()
            ) + sum(h.amount * MARK for h in twin.holdings))  # fmt: skip
            for name in VARIABLES:
                assert float(one[name]) == pytest.approx(slow[name], abs=scale), name
            open_ = len(twin.positions) - lived.stops
            assert int(one["liquidations"]) == (open_ if slow["died"] else 0)
            assert int(one["stops"]) == lived.stops
    alone = walk(build_ladders(table_of([], isolated), list(ASSETS), ["account"], 10), drivers)
    for i in range(2):
        for name in ("pnl", "deficit", "stops"):
            np.testing.assert_array_equal(
                cube[name].values[:, place[f"i{i}"]], alone[name].values[:, i]
            )


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_removing_a_position_changes_no_other_pool_and_no_isolated_position(seed):
    rng = np.random.default_rng(seed)
    twins = [cross_twin(rng, n=3) for _ in range(3)]
    _, drivers = bars_of(rng, 3)
    book = table_of(twins, [random_position(rng, mark=MARK) for _ in range(2)])
    gone = int(rng.integers(3))
    kept = np.delete(np.arange(book.num_rows), gone)
    every = position_outcomes(book, drivers)
    fewer = position_outcomes(book.take(pa.array(kept)), drivers)
    others = np.flatnonzero(np.isin(every.row.values, np.arange(3, book.num_rows)))
    same = np.flatnonzero(np.isin(kept[fewer.row.values], np.arange(3, book.num_rows)))
    for name in (*VARIABLES, "outcome"):
        np.testing.assert_array_equal(
            every[name].values[:, others], fewer[name].values[:, same], err_msg=name
        )


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_cash_is_conserved_in_every_pool_and_scenario(seed):
    rng = np.random.default_rng(seed)
    twin = cross_twin(rng, extra=False, stops=False)
    twin.positions = {
        name: (asset, replace(one, inverse=False, size=one.size / (MARK if one.inverse else 1)))
        for name, (asset, one) in twin.positions.items()
    }
    _, drivers = bars_of(rng, 4)
    book = table_of([fresh(twin)])
    found = position_outcomes(book, drivers)
    exposure, notional = (
        book[name].to_numpy()[found.row.values] for name in ("exposure_usd", "notional_usd")
    )
    place = [ASSETS.index(asset) for asset in book["asset"].to_pylist()]
    x = drivers["last"].values[:, place][:, found.row.values]
    closed = found.liquidated_notional.values
    x = np.where(closed > 0, closed / notional, x)
    moved = (exposure * (x - 1.0)).sum(axis=1)
    paid = (found.pnl + found.venue_gain - found.deficit + found.market_cost).sum("position")
    np.testing.assert_allclose(paid, moved, atol=1e-9 * notional.sum(), rtol=0)
    # Nobody loses more than the pool.
    worth = twin.cash + sum(one.profit(one.size, MARK) for _, one in twin.positions.values())
    least = found.pnl.sum("position").values
    assert (least >= -max(worth, 0.0) - 1e-9 * notional.sum())[(closed > 0).any(axis=1)].all()


def in_a_day(*rows, accounts=(), **rules):
    """The book of some rows with the balances behind them."""
    listed = sorted({row["symbol"] for row in rows})
    return build_book(
        pa.Table.from_pylist(list(rows), schema=POSITIONS),
        pa.Table.from_pylist([contract(symbol) for symbol in listed], schema=CONTRACTS),
        pa.Table.from_pylist(
            [tier for symbol in listed for tier in tier_table(symbol)], schema=TIERS
        ),
        {"binance": VenueRules.model_validate({**RULES, "venue": "binance", **rules})},
        as_of=AS_OF,
        accounts=pa.Table.from_pylist(
            [{"venue": "binance", "haircut": 0.0, **row} for row in accounts], schema=ACCOUNTS
        ),
    )


@given(
    SEEDS,
    st.sampled_from(["BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDT:USDT-251226"]),
    st.sampled_from(["long", "short"]),
    st.floats(0.03, 1.2),
    st.floats(-0.02, 0.02),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_a_pool_of_one_position_equals_the_isolated_position(
    seed, symbol, side, margin, away, is_entry, to_holder
):
    rng = np.random.default_rng(seed)
    size = float(rng.choice([0.5, 3.0, 9.0])) * (1_000.0 if symbol.endswith("USD:BTC") else 1.0)
    entry = 100_000.0 * (1.0 + away)
    terms = contract(symbol)
    value = size * terms["contract_size"] * (entry if terms["linear"] else 1.0 / entry)
    row = {"symbol": symbol, "side": side, "contracts": size, "entry_price": entry}
    rules = {
        "maintenance_basis": "entry" if is_entry else "mark",
        "leftover": "holder" if to_holder else "fund",
        "liquidation_fee_rate": 0.01,
        "trigger_includes_closing_fee": True,
    }
    posted = margin * value
    alone = in_a_day(position(**row, position_margin=posted), **rules)
    balance = {"account": "a1", "currency": terms["settle"], "balance": posted}
    pooled = in_a_day(position(**row, margin_mode="cross"), accounts=[balance], **rules)
    one, other = (margin_table(book).to_pylist()[0] for book in (alone, pooled))
    assert one.pop("status") == other.pop("status")
    one.pop("reason"), other.pop("reason")
    is_safe = alone["status"].to_pylist() == ["ok"]
    for name, amount in one.items():
        if amount is None or isinstance(amount, str | bool):
            assert other[name] == amount, name
        elif name == "distance_to_liquidation" and not is_safe:
            assert other[name] <= 0.0
        elif name != "liquidation_price" or is_safe:
            assert other[name] == pytest.approx(amount, rel=1e-9, abs=1e-9), name
    if not is_safe:
        return
    drivers = drivers_of({"BTC": [random_path(rng) for _ in range(6)]})
    single, shared = (position_outcomes(book, drivers) for book in (alone, pooled))
    usd = alone["notional_usd"][0].as_py()
    for name in VARIABLES:
        np.testing.assert_allclose(
            shared[name].values, single[name].values, atol=1e-9 * usd, rtol=0, err_msg=name
        )
    np.testing.assert_array_equal(shared.outcome.values, single.outcome.values)


@given(SEEDS, st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_more_collateral_never_hurts_the_pool(seed, share):
    rng = np.random.default_rng(seed)
    twin = cross_twin(rng, stops=False)  # the bounds leave them out
    notional = sum(p.value(MARK) * (MARK if p.inverse else 1) for _, p in twin.positions.values())
    richer = fresh(twin)
    richer.cash += share * notional
    _, drivers = bars_of(rng, 5)
    less, more = (table_of([one]) for one in (twin, richer))
    poor, rich = (pool_figures(build_pools(b, pooled_rows(b), ASSETS)) for b in (less, more))
    assert rich["is_liquidatable"][0] <= poor["is_liquidatable"][0]
    assert rich["equity"][0] >= poor["equity"][0]
    if poor["is_liquidatable"][0]:
        return
    apart = np.abs(rich["trigger"] - 1.0) - np.abs(poor["trigger"] - 1.0)
    assert (np.isnan(rich["trigger"]) | (apart >= -1e-9)).all()
    before, after = (pool_outcomes(read_pools(b, ASSETS), drivers) for b in (less, more))
    assert (after.counts[:, 0] <= before.counts[:, 0]).all()
    # No order of the bars' prices liquidates more than the cube has; some never liquidate.
    assert (before.counts[:, 2] <= before.counts[:, 1]).all()
    assert (before.counts[:, 1] <= before.counts[:, 0]).all()


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_at_its_liquidation_price_the_twin_has_nothing_left_over(seed):
    rng = np.random.default_rng(seed)
    twin = cross_twin(rng)
    book = table_of([twin])
    pools = build_pools(book, pooled_rows(book), ASSETS)
    found = pool_figures(pools)
    here = dict.fromkeys(ASSETS, 1.0)
    scale = pools.notional.sum() + abs(twin.cash)
    assert found["equity"][0] - found["required"][0] == pytest.approx(
        twin.excess(here), abs=1e-9 * scale
    )
    for leg, trigger in enumerate(found["trigger"].tolist()):
        asset = ASSETS[pools.asset[leg]]
        if not math.isnan(trigger):
            assert abs(twin.excess(here | {asset: trigger})) <= 1e-9 * scale * max(trigger, 1.0)
        elif not found["is_liquidatable"][0]:
            assert all(twin.excess(here | {asset: x}) > 0 for x in (1e-4, 0.3, 3.0, 1e4))
        zero = found["bankrupt"][leg]
        if not math.isnan(zero):
            assert abs(twin.worth(here | {asset: zero})) <= 1e-9 * scale * max(zero, 1.0)


def test_a_positions_tail_is_that_of_its_results_in_every_scenario():
    rng = np.random.default_rng(5)
    twins = [cross_twin(rng) for _ in range(4)]
    book = table_of(twins, [random_position(rng, mark=MARK)])
    _, drivers = bars_of(rng, 400)
    for weights in (None, rng.dirichlet(np.ones(400))):
        if weights is not None:
            drivers = drivers.assign_coords(weight=("scenario", weights))
        tails = position_tails(book, drivers)
        outcomes = position_outcomes(book, drivers)
        probability = liquidation_probability(book, drivers)
        for at in range(outcomes.sizes["position"]):
            row, pnl = int(outcomes.row[at]), outcomes.pnl.values[:, at]
            given_ = {"weights": weights}
            assert tails.value_at_risk.values[row] == pytest.approx(
                value_at_risk(pnl, 0.99, **given_), rel=1e-9, abs=1e-9
            )
            assert tails.expected_shortfall.values[row] == pytest.approx(
                expected_shortfall(pnl, 0.975, **given_), rel=1e-9, abs=1e-9
            )
            weight = drivers.weight.values
            hit = weight @ (outcomes.outcome.values[:, at] == 2)
            assert tails.liquidation_probability.values[row] == pytest.approx(hit)
            assert probability[row] == pytest.approx(hit)
            assert tails.expected_deficit.values[row] == pytest.approx(
                weight @ outcomes.deficit.values[:, at]
            )


def test_kept_outcomes_and_mapped_ladders_give_the_same_bytes(tmp_path):
    rng = np.random.default_rng(11)
    book = table_of([cross_twin(rng) for _ in range(5)], [random_position(rng, mark=MARK)])
    _, drivers = bars_of(rng, 700)  # more than are laid out at a time
    ladders = build_ladders(book, list(ASSETS), ["account"], 10)
    ladders.save(tmp_path)
    outcomes = pool_outcomes(ladders.cross.pools, drivers)
    assert outcomes.counts[:, 0].sum() > 0
    fresh_, kept = walk(load_ladders(tmp_path), drivers), walk(ladders, drivers, pooled=outcomes)
    for name in fresh_.data_vars:
        np.testing.assert_array_equal(fresh_[name].values, kept[name].values)
    index = np.array([3, 4, 600])
    some = take_outcomes(outcomes, index)
    part = drivers.isel(scenario=index, gap=slice(0, 0))
    losses = account_losses(book, part, pooled=some)
    # Paid in full by the cube's own numbers, account by account.
    for row in losses.to_pylist():
        if row["account"].startswith("a"):
            cell = ladders.cells["account"].to_pylist().index(row["account"])
            stored = kept.pnl.values[index[row["scenario"]], cell]
            assert row["pnl_usd"] == pytest.approx(stored, rel=1e-9, abs=1e-6)


def test_the_tail_of_pools_needs_no_more_than_a_part_of_what_blocks_kept(tmp_path):
    """A quiet block keeps no rows; scenarios are numbered through all blocks."""
    rng = np.random.default_rng(11)
    book = table_of([cross_twin(rng) for _ in range(5)], [random_position(rng, mark=MARK)])
    _, drivers = bars_of(rng, 300)
    outcomes = pool_outcomes(read_pools(book, ASSETS), drivers)
    quiet = np.setdiff1d(np.arange(300), outcomes.scenario)[:1]
    parts = [np.arange(0, 100), np.arange(100, 101), np.arange(101, 300), quiet]
    names = [f"set-{number}" for number in range(len(parts))]
    for name, index in zip(names, parts, strict=True):
        save_outcomes(tmp_path, name, take_outcomes(outcomes, index))
    results, whole = load_results(tmp_path, names[:3]), results_of(outcomes)
    for field, wanted, found in zip(whole._fields, whole, results, strict=True):
        np.testing.assert_array_equal(found, wanted, err_msg=field)
        assert found.dtype == wanted.dtype, field
    assert len(quiet)
    assert len(load_results(tmp_path, names[3:]).leg) == 0
    tails = [position_tails(book, drivers, pooled=pooled) for pooled in (outcomes, results, None)]
    assert tails[0].identical(tails[1])
    assert tails[0].identical(tails[2])
    assert (tails[0].expected_deficit > 0).any()


def test_cross_rows_stand_on_their_balances_or_say_why_they_are_not_priced(tmp_path):
    rows = [
        {"account": "a", "margin_mode": "cross", "symbol": "BTC/USDT:USDT"},
        {"account": "a", "margin_mode": "cross", "symbol": "ETH/USDT:USDT", "side": "short"},
        {"account": "b", "margin_mode": "cross", "symbol": "BTC/USD:BTC", "contracts": 10.0},
        {"account": "c", "margin_mode": "cross", "symbol": "BTC/USDT:USDT"},  # no balance
        {"account": "d", "margin_mode": "cross", "symbol": "SOL/USDT:USDT"},  # no driver
        {"account": "d", "margin_mode": "cross", "symbol": "BTC/USDT:USDT"},
        {"account": "e", "margin_mode": "cross", "symbol": "BTC/USDT:USDT"},  # coin without mark
        {"account": "f"},
        {"account": "g", "margin_mode": "cross", "symbol": "BTC/USDT:USDT"},  # broken balance
        {"account": "h", "margin_mode": "cross", "symbol": "BTC/USDT:USDT"},  # in debt
        {"account": "i", "margin_mode": "cross", "symbol": "BTC/USDT:USDT"},  # coin without driver
    ]
    balances = [
        {"account": "a", "currency": "USDT", "balance": 9_000.0},
        {"account": "a", "currency": "BTC", "balance": 0.05, "haircut": 0.1},
        {"account": "b", "currency": "BTC", "balance": 0.02},
        {"account": "d", "currency": "USDT", "balance": 9_000.0},
        {"account": "e", "currency": "XYZ", "balance": 1.0},
        {"account": "g", "currency": "USDT", "balance": 9_000.0},
        {"account": "g", "currency": "BTC", "balance": 1.0, "haircut": 1.5},
        {"account": "h", "currency": "USDT", "balance": 9_000.0},
        {"account": "h", "currency": "BTC", "balance": -0.087, "haircut": 0.5},
        {"account": "i", "currency": "SOL", "balance": 100.0},
    ]
    accounts = [{"venue": "binance", "haircut": 0.0, **row} for row in balances]
    snapshot = load_snapshot(write_snapshot(tmp_path, rows, accounts=accounts))
    assert snapshot.quarantine["reason"].to_pylist() == ["haircut must be between 0 and 1, got 1.5"]
    book = build_book(
        snapshot.positions, snapshot.contracts, snapshot.tiers, snapshot.venues,
        as_of=AS_OF, accounts=snapshot.accounts,
    )  # fmt: skip
    book = mark_unpriced(book, ["BTC", "ETH"])
    said = {
        (row["account"], row["symbol"]): (row["status"], row["reason"])
        for row in book.select(["account", "symbol", "status", "reason"]).to_pylist()
    }
    btc, no_balance = "BTC/USDT:USDT", "cross margin without a valid balance in accounts"
    neighbour = "another position of its cross-margin pool is not priced"
    assert said == {
        ("a", btc): ("ok", None),
        ("a", "ETH/USDT:USDT"): ("ok", None),
        ("b", "BTC/USD:BTC"): ("ok", None),
        ("c", btc): ("unpriced", no_balance),
        ("d", "SOL/USDT:USDT"): ("unpriced", "no price history on the as-of date for SOL"),
        ("d", btc): ("unpriced", neighbour),
        ("e", btc): ("unpriced", "cross margin with a balance in XYZ, which has no mark"),
        ("f", btc): ("ok", None),
        ("g", btc): ("unpriced", no_balance),
        # 9,000 less a debt of 8,700 that no haircut makes smaller; the tier asks for more.
        ("h", btc): (
            "liquidatable",
            "its cross-margin pool is already at or past its trigger at the mark",
        ),
        ("i", btc): (
            "unpriced",
            "cross margin with a balance in SOL: no price history on the as-of date for it",
        ),
    }
    priced = book.filter(pc.equal(book["status"], "ok"))
    mine = [row for row in priced.to_pylist() if row["account"] == "a"]
    # Marks are the entries, so equity is collateral: 9,000 and 90 % of 0.05 coins.
    assert [row["equity_usd"] for row in mine] == pytest.approx([9_000 + 0.9 * 5_000] * 2)
    assert len({row["margin_ratio"] for row in mine}) == 1
    assert mine[0]["liquidation_price"] < mine[0]["mark_price"]
    # Sums over positions count a pool once.
    equity = divided_equity(priced)
    owned = np.array([row["account"] == "a" for row in priced.to_pylist()])
    assert equity[owned].sum() == pytest.approx(13_500.0)
    # BTC falls by a tenth: dollars and coins of a pay for it; b's coins melt with its long.
    one = np.array([[1.0, 1.0]])
    drivers = make_drivers(
        one * [0.9, 1.0], one, one * [0.9, 1.0], assets=["BTC", "ETH"], label=["x"], source=["x"]
    )
    losses = {row["account"]: row for row in account_losses(book, drivers).to_pylist()}
    exposure = {row["symbol"]: row["exposure_usd"] for row in mine}
    assert losses["a"]["pnl_usd"] == pytest.approx(-0.1 * (exposure[btc] + 5_000.0))
    assert set(losses) == {"a", "b", "f"}


def test_a_balance_twice_stops_the_load(tmp_path):
    row = {
        "account": "a",
        "venue": "binance",
        "currency": "USDT",
        "balance": 1.0,
        "haircut": 0.0,
    }
    with pytest.raises(Exception, match=r"account, venue, currency .* appears in .* and in"):
        load_snapshot(write_snapshot(tmp_path, accounts=[row, row]))
