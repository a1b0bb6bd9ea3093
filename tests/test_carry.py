"""Funding, basis, pegs and settlement: instruments against a twin that pays as it goes.

The twin keeps a wallet, in the contract's own terms: funding is paid out of it at every settlement,
a future is marked with its basis and settled at the index, a peg converts what is left. It shares
no code with `risk`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.drivers import make_drivers
from risk.instruments import (
    Instrument,
    add_instruments,
    assets_alone,
    follow_assets,
    instrument_name,
)
from risk.liquidation import account_losses, build_ladders, position_outcomes, walk
from risk.liquidation.terms import driver_places
from risk.scenarios.carry import Carry
from risk.scenarios.monte_carlo import draw_block
from risk.schema import CUBE, GAPS
from tests.books import book_of, random_position
from tests.brute import Outcome, Turn, _act, _usd

seeds = st.integers(0, 2**32 - 1)

SYMBOLS = {
    "linear_perpetual": "BTC/USDT:USDT",
    "inverse_perpetual": "BTC/USD:BTC",
    "linear_future": "BTC/USDT:USDT-250926",
    "inverse_future": "BTC/USD:BTC-250926",
}


# -- the twin ------------------------------------------------------------------------------------


def random_ride(rng, *, rate=0.01, n=8, expires=True):
    """A path of the asset with what happens on the way: moves, payments, a basis that goes."""
    steps, here = [], 1.0
    for _ in range(n):
        here *= float(np.exp(rng.normal(0, 0.06)))
        steps.append(("jump" if rng.random() < 0.4 else "drift", here))
        if rng.random() < 0.5:
            steps.append(("fund", float(rng.normal(0, rate))))
        if rng.random() < 0.4:
            steps.append(("basis", float(1 + rng.normal(0, 0.01))))
    if expires and rng.random() < 0.5:
        at = int(rng.integers(1, len(steps) + 1))
        steps[at:at] = [("expire", 0.985)]
    return steps


def ridden_ratios(kind, steps):
    """The instrument's own path, step by step, as (how, ratio) for the record."""
    x, g, paid, owed, path = 1.0, 1.0, 0.0, 0.0, []
    for how, value in steps:
        if how in ("drift", "jump"):
            x = value
        elif how == "fund" and kind.endswith("perpetual"):
            if kind.startswith("inverse"):
                owed += value / x
            else:
                paid += value * x
        elif how in ("basis", "expire") and kind.endswith("future"):
            g = value
        else:
            continue
        path.append(("drift" if how == "drift" else "jump", g * x / (1 + owed * x) - paid))
        if how == "expire":
            break
    return path


def live(position, kind, steps, trigger, stop):
    """Walk a position through the steps with a wallet; returns outcome and funding paid, in USD.

    Only what the ratio of the instrument cannot say is done otherwise: nothing.
    """
    mark, out, paid_usd = position.mark, Outcome(), 0.0
    start = _usd(position, mark)
    x, g, last = 1.0, 1.0, 1.0
    for how, value in steps:
        if how in ("drift", "jump"):
            target = value * g
        elif how == "fund" and kind.endswith("perpetual") and position.size:
            # Paid on the value at the mark, out of the wallet, which moves the trigger.
            due = position.direction * position.value(x * g * mark) * value
            paid_usd += due * (x * mark if position.inverse else 1.0)
            position = replace(position, wallet=position.wallet - due)
            target = x * g
        elif how in ("basis", "expire") and kind.endswith("future"):
            g = value
            target = x * g
        else:
            continue
        is_jump = how != "drift"
        here = last
        while position.size:
            level = position.trigger()
            level = None if level is None else level / mark
            at = stop if stop is not None and _nearer(position, stop, level) else level
            turn = Turn(position, level, None)
            if at is None or not turn.is_hit(at, target):
                break
            price = target if is_jump else (here if turn.is_hit(at, here) else at)
            liquidated = level is not None and turn.is_hit(level, price)
            out.drift += _usd(position, price * mark) - _usd(position, here * mark)
            position = _act(turn, position, price, liquidated, out)
            here = price
            stop = None
        out.drift += _usd(position, target * mark) - _usd(position, here * mark)
        last = target
        if how in ("drift", "jump"):
            x = value
        if how == "expire":
            break
    out.liquidations = min(out.liquidations, 1)
    out.pnl = _usd(position, last * mark) - start
    return out, paid_usd


def _nearer(position, stop, level):
    return level is None or position.direction * (stop - level) > 0


def record_of(kinds, rides):
    """Driver record of the asset and of an instrument per kind, read off step by step."""
    n = len(rides)
    one = np.ones((n, 1))
    asset = make_drivers(
        one, one, one, assets=["BTC"], label=[str(i) for i in range(n)], source=["drawn"] * n
    )
    names = [instrument_name("BTC", _settle(kind), kind, SYMBOLS[kind]) for kind in kinds]
    low, high, last = (np.ones((n, len(kinds))) for _ in range(3))
    rows = []
    for k, kind in enumerate(kinds):
        for i, steps in enumerate(rides):
            here = 1.0
            for how, y in ridden_ratios(kind, steps):
                if how == "jump" and y < low[i, k]:
                    rows.append((i, k, -1, low[i, k], y))
                if how == "jump" and y > high[i, k]:
                    rows.append((i, k, 1, high[i, k], y))
                low[i, k], high[i, k], here = min(low[i, k], y), max(high[i, k], y), y
            last[i, k] = here
    columns = np.array(rows, "f8").reshape(-1, len(GAPS)).T
    gaps = dict(zip(GAPS, columns, strict=True))
    return add_instruments(asset, names, low, high, last, gaps)


def _settle(kind):
    return "BTC" if kind.startswith("inverse") else "USDT"


def world(seed, *, kinds, n=30, n_rides=20, **ride):
    rng = np.random.default_rng(seed)
    positions, named = [], []
    while len(positions) < n:
        position = random_position(rng, steps=0.0)
        kind = str(rng.choice([k for k in kinds if k.startswith("inverse") == position.inverse]))
        positions.append(position)
        named.append(kind)
    rides = [random_ride(rng, **ride) for _ in range(n_rides)]
    return positions, named, rides


def table_of(positions, kinds):
    return book_of(
        positions,
        kind=kinds,
        symbol=[SYMBOLS[kind] for kind in kinds],
        settle=[_settle(kind) for kind in kinds],
    )


# -- simulated paths -----------------------------------------------------------------------------


def market(n=2, **funding) -> xr.Dataset:
    """A calibration of a few assets, with funding that moves."""
    names = np.array([f"A{k}" for k in range(n)], object)
    fit = {"level": 1e-4, "persistence": 0.8, "sd": 2e-4, "price_correlation": 0.3} | funding
    residual = np.random.default_rng(5).standard_t(5, (n, 400)) / np.sqrt(5 / 3)
    return xr.Dataset(
        {
            "volatility": ("asset", np.full(n, 0.04)),
            "correlation": (("asset", "asset_2"), 0.5 + 0.5 * np.eye(n)),
            "degrees_of_freedom": ((), 5.0),
            "common_intensity": ((), 0.2),
            "common_mean": ((), -0.02),
            "common_sd": ((), 0.1),
            "common_loading": ("asset", np.ones(n)),
            "common_residual_sd": ("asset", np.full(n, 0.03)),
            "own_intensity": ("asset", np.full(n, 0.5)),
            "own_mean": ("asset", np.zeros(n)),
            "own_sd": ("asset", np.full(n, 0.1)),
            "funding_source": ("asset", names),
            "funding_residual": (("asset", "funding_draw"), residual),
        }
        | {f"funding_{name}": ("asset", np.full(n, value)) for name, value in fit.items()},
        coords={"asset": names, "asset_2": names},
    )


KEY = {"seed": 3, "set_code": 2, "block": 1, "steps": 24, "horizon_days": 1}
SWAP = Instrument("A0 / perpetual USDT", "A0", "USDT", False, 3e-4, 0.0, None)
COIN = Instrument("A0 / perpetual A0", "A0", "A0", True, 3e-4, 0.0, None)
FAR = Instrument("A1 / 250926 USDT", "A1", "USDT", False, None, 0.02, 89.0)
DUE = Instrument("A1 / 250630 USDT", "A1", "USDT", False, None, 0.004, 1 / 3)
USDC = Instrument("A1 / perpetual USDC", "A1", "USDC", False, 0.0, 0.0, None)
EVERY = (SWAP, COIN, FAR, DUE, USDC)


def draw(n=600, instruments=EVERY, calibration=None, **changes):
    carry = Carry(instruments, **{k: changes.pop(k) for k in list(changes) if k in _CARRY})
    model = market() if calibration is None else calibration
    return draw_block(model, n=n, carry=carry, **(KEY | changes))


_CARRY = ("funding", "basis_volatility", "pegs", "as_assets")


def test_instruments_change_no_byte_of_the_assets():
    alone = draw_block(market(), n=600, **KEY)
    behind = assets_alone(draw(basis_volatility=0.01, pegs={"USDC": (0.5, 0.9)}))
    for name in ("low", "high", "last", *GAPS):
        assert alone[name].values.tobytes() == behind[name].values.tobytes(), name


def test_an_instrument_rides_alike_whoever_rides_beside_it():
    """Law 2, for scenarios: a position that brings an instrument changes nobody's."""
    whole = draw(basis_volatility=0.01, pegs={"USDC": (0.5, 0.9)})
    for one in EVERY:
        part = draw(instruments=(one,), basis_volatility=0.01, pegs={"USDC": (0.5, 0.9)})
        for name in ("low", "high", "last"):
            mine = (record[name].sel(asset=one.name).values for record in (part, whole))
            np.testing.assert_array_equal(*mine)


def test_without_carry_an_instrument_is_its_asset():
    still = replace(FAR, basis=0.0)
    record = draw(instruments=(replace(SWAP, funding_rate=0.0), still), funding=False)
    follow = follow_assets(assets_alone(record), [str(name) for name in record["asset"].values])
    for name in ("low", "high", "last", "gap_before", "gap_landing"):
        np.testing.assert_allclose(record[name].values, follow[name].values, rtol=1e-14)
    np.testing.assert_array_equal(record["gap_asset"].values, follow["gap_asset"].values)


@pytest.mark.parametrize("is_inverse", [False, True])
def test_a_constant_rate_is_paid_at_every_tick(is_inverse):
    """Against the paths themselves, seen step by step: r (x8 + x16 + x24), or r (1/x8 + ...)."""
    one = COIN if is_inverse else SWAP
    constant = market(level=3e-4, persistence=1.0, sd=0.0)
    record = draw(instruments=(one,), calibration=constant, recorded=[0])
    x = record["path"].sel(path_asset="A0").values
    at = x[[7, 15, 23]]
    paid = 3e-4 * (1 / at if is_inverse else at).sum(axis=0)
    expected = x[-1] / (1 + paid * x[-1]) if is_inverse else x[-1] - paid
    np.testing.assert_allclose(record["last"].sel(asset=one.name).values, expected, rtol=1e-12)
    # Longs pay all day: the low lies no higher than the asset's less nothing, no lower than less F.
    low, asset = (record["low"].sel(asset=name).values for name in (one.name, "A0"))
    assert (low <= asset + 1e-12).all()
    assert (low >= asset - paid * np.maximum(x.max(axis=0), 1) ** 2 - 1e-12).all()


def test_rates_return_to_their_level_with_the_spread_of_the_model():
    """Mean and variance of the second payment, an autoregression of order one, closed form."""
    calibration = market(level=-2e-4, persistence=0.5, sd=1e-4, price_correlation=0.0)
    calm = calibration.assign(volatility=("asset", np.full(2, 1e-9)))
    record = draw(20_000, instruments=(SWAP,), calibration=calm, jumps=False, model="normal")
    paid = 1 - record["last"].sel(asset=SWAP.name).values
    # r1 = 3e-4, r2 = l + p (r1 - l) + e1, r3 = l + p (r2 - l) + e2
    mean = 3e-4 + (-2e-4 + 0.5 * 5e-4) + (-2e-4 + 0.25 * 5e-4)
    drawn = calibration["funding_residual"].values[0]
    deviation = np.sqrt((1.5**2 + 1) * 1e-8 * drawn.var())
    error = deviation / np.sqrt(20_000)
    assert abs(paid.mean() - mean - 2.5e-4 * drawn.mean()) < 4 * error
    assert paid.std() == pytest.approx(deviation, rel=0.05)


def test_a_future_loses_its_basis_in_a_straight_line_and_is_settled_at_the_index():
    record = draw(recorded=[1])
    x = record["path"].sel(path_asset="A1").values
    far, due = (record["last"].sel(asset=one.name).values for one in (FAR, DUE))
    np.testing.assert_allclose(far, x[-1] * (1 + 0.02 * (88 / 89)) / 1.02, rtol=1e-12)
    # Eight hours: the settlement is the index at the eighth step, and nothing moves it after.
    np.testing.assert_allclose(due, x[7] / 1.004, rtol=1e-12)
    low = record["low"].sel(asset=DUE.name).values
    late = (x[8:].min(axis=0) < np.minimum(x[:8].min(axis=0), 1) * 0.95).nonzero()[0]
    assert len(late) > 20
    assert (low[late] > x[8:].min(axis=0)[late] / 1.004).all()


def test_the_basis_wanders_as_a_bridge_that_ends_at_the_expiry():
    calm = market().assign(volatility=("asset", np.full(2, 1e-9)))
    three = replace(FAR, basis=0.0, expiry_days=3.0)
    record = draw(
        20_000, instruments=(three,), calibration=calm, jumps=False, model="normal",
        basis_volatility=0.01,
    )  # fmt: skip
    wandered = record["last"].sel(asset=FAR.name).values - 1
    assert wandered.std() == pytest.approx(0.01 * np.sqrt(1 * 2 / 3), rel=0.03)
    ends = replace(three, expiry_days=1.0)
    record = draw(instruments=(ends,), calibration=calm, jumps=False, basis_volatility=0.01,
                  model="normal")  # fmt: skip
    np.testing.assert_allclose(record["last"].sel(asset=FAR.name), 1.0, atol=1e-8)


def test_a_peg_is_lost_as_often_as_it_says_and_moves_the_price_in_it():
    record = draw(20_000, pegs={"USDC": (0.1, 0.87)}, recorded=[1])
    lost = record["peg"].sel(settle="USDC").values < 1
    assert abs(lost.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 20_000)
    x = record["path"].sel(path_asset="A1").values[-1]
    last = record["last"].sel(asset=USDC.name).values
    # All but the funding, which is a part in a thousand.
    np.testing.assert_allclose(last[lost], x[lost] / 0.87, rtol=3e-3)
    np.testing.assert_allclose(last[~lost], x[~lost], rtol=3e-3)


# -- agreement -----------------------------------------------------------------------------------


FUTURES = ("linear_future", "inverse_future")


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_a_future_with_basis_and_settlement_equals_the_twin(seed):
    """Law 4: exact for every feature, jumps of the price and of the basis included."""
    positions, kinds, rides = world(seed, kinds=FUTURES)
    _agree(positions, kinds, rides, exact=CUBE)


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_linear_funding_at_an_entry_requirement_equals_the_twin(seed):
    """Exact, but for costs and fees: those are charged on the ratio less what was paid."""
    positions, kinds, rides = world(seed, kinds=("linear_perpetual", "inverse_future"))
    positions = [
        replace(p, entry_basis=True, fee_in_trigger=0.0, closing_fee=0.0, liquidation_fee=0.0,
                stop=None)
        for p in positions
    ]  # fmt: skip
    kept = [i for i, p in enumerate(positions) if p.excess(p.mark) > 0]
    _agree(
        [positions[i] for i in kept], [kinds[i] for i in kept], rides,
        exact=("pnl", "deficit", "venue_gain", "market_cost", "liquidations", "stops"),
    )  # fmt: skip


def _agree(positions, kinds, rides, exact):
    table = table_of(positions, kinds)
    record = record_of(sorted(set(kinds)), rides)
    names = [str(name) for name in record["asset"].values]
    cube = walk(build_ladders(table, names, ["kind", "settle"]), record)
    cells = build_ladders(table, names, ["kind", "settle"]).cells["kind"].to_pylist()
    gross = sum(np.abs(table[name].to_numpy()).sum() for name in ("notional_usd", "equity_usd"))
    triggers, stops = table["trigger"].to_pylist(), table["stop_trigger"].to_pylist()
    twin = {name: np.zeros((len(rides), len(cells))) for name in CUBE}
    for position, kind, trigger, stop in zip(positions, kinds, triggers, stops, strict=True):
        for i, steps in enumerate(rides):
            one, _ = live(position, kind, steps, trigger, stop)
            for name in CUBE:
                twin[name][i, cells.index(kind)] += getattr(one, name)
    for name in exact:
        difference = np.abs(cube[name].values - twin[name]).max()
        assert difference <= 1e-9 * (1 if name in ("liquidations", "stops") else gross), name
    return cube


def outcomes(positions, kinds, rides, record):
    """Engine and twin per (scenario, position): the record's outcomes, the twin's, its payments."""
    table = table_of(positions, kinds)
    found = position_outcomes(table, record)
    triggers, stops = table["trigger"].to_pylist(), table["stop_trigger"].to_pylist()
    twin = [
        [live(p, kind, steps, trigger, stop) for p, kind, trigger, stop in rows]
        for steps in rides
        for rows in [list(zip(positions, kinds, triggers, stops, strict=True))]
    ]
    return table, found, twin


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_cash_is_conserved_with_what_funding_moves(seed):
    """Law 3: holder + venue - deficit + cost + funding paid is what the price earned."""
    positions, kinds, rides = world(seed, kinds=("linear_perpetual", "inverse_future"))
    positions = [replace(p, entry_basis=True, closing_fee=0.0, liquidation_fee=0.0, stop=None,
                         fee_in_trigger=0.0) for p in positions]  # fmt: skip
    kept = [i for i, p in enumerate(positions) if p.excess(p.mark) > 0]
    positions, kinds = [positions[i] for i in kept], [kinds[i] for i in kept]
    record = record_of(sorted(set(kinds)), rides)
    table, found, twin = outcomes(positions, kinds, rides, record)
    total = (found.pnl + found.venue_gain - found.deficit + found.market_cost).values
    gross = np.abs(table["exposure_usd"].to_numpy()) + table["equity_usd"].to_numpy()
    some_paid = 0.0
    for i, row in enumerate(twin):
        for p, (one, paid) in enumerate(row):
            assert total[i, p] + paid == pytest.approx(one.drift, abs=1e-9 * gross[p])
            some_paid = max(some_paid, abs(paid) / gross[p])
    assert some_paid > 1e-4 or "linear_perpetual" not in kinds


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_at_a_mark_requirement_a_trigger_is_off_by_no_more_than_it_says(seed):
    """Folding funding into the price: m F / (1 - m) of the price, and nothing beyond it flips."""
    kinds = ("linear_perpetual", "inverse_perpetual")
    positions, kinds, rides = world(seed, kinds=kinds, rate=0.002)
    positions = [replace(p, stop=None) for p in positions]
    record = record_of(sorted(set(kinds)), rides)
    table, found, twin = outcomes(positions, kinds, rides, record)
    names = [str(name) for name in record["asset"].values]
    place = driver_places(table, names)
    for p, (position, kind) in enumerate(zip(positions, kinds, strict=True)):
        trigger = table["trigger"][p].as_py()
        if trigger is None:
            continue
        rate = position.tiers[-1][1] + position.fee_in_trigger
        extreme = (record.low if position.direction > 0 else record.high).values[:, place[p]]
        for i, steps in enumerate(rides):
            path = [value for how, value in steps if how != "fund"] + [1.0]
            rates = sum(abs(value) for how, value in steps if how == "fund")
            paid = rates * max(path) * (max(path) / min(path) if kind[0] == "i" else 1.0)
            bound = rate * paid / (1 - rate) * 1.01
            if abs(extreme[i] - trigger) > bound:
                assert (found.outcome.values[i, p] == 2) == (twin[i][p][0].liquidations == 1)


@given(seed=seeds, price=st.floats(0.5, 1.2))
@settings(max_examples=15, deadline=None)
def test_a_lost_peg_takes_its_share_of_everything(seed, price):
    """P&L = p (e0 + V) - e0, in cells that mix settle currencies and for accounts alike."""
    positions, kinds, rides = world(seed, kinds=FUTURES, n_rides=8)
    record = record_of(sorted(set(kinds)), rides)
    table, found, _ = outcomes(positions, kinds, rides, record)
    pegs = np.full((len(rides), 1), price)
    pegged = record.assign(peg=(("scenario", "settle"), pegs)).assign_coords(
        settle=np.array(["USDT"], object)
    )
    p = np.where(np.array(kinds) == "linear_future", price, 1.0)
    e0 = table["equity_usd"].to_numpy()
    gross = np.abs(table["exposure_usd"].to_numpy()).sum() + e0.sum()
    names = [str(name) for name in record["asset"].values]
    cube = walk(build_ladders(table, names, ["venue"]), pegged)
    accounts = account_losses(table, pegged)
    expected = (p * (e0 + found.pnl.values) - e0).sum(axis=1)
    assert np.abs(cube.pnl.values[:, 0] - expected).max() <= 1e-9 * gross
    for name in ("venue_gain", "deficit", "market_cost", "liquidated_notional"):
        whole = (p * found[name].values).sum(axis=1)
        assert np.abs(cube[name].values[:, 0] - whole).max() <= 1e-9 * gross, name
    np.testing.assert_array_equal(cube.liquidations[:, 0], (found.outcome == 2).sum("position"))
    np.testing.assert_allclose(accounts["pnl_usd"], cube.pnl[:, 0], atol=1e-9 * gross)
    np.testing.assert_allclose(accounts["deficit_usd"], cube.deficit[:, 0], atol=1e-9 * gross)


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_more_collateral_never_liquidates_sooner_with_funding_and_basis(seed):
    """Law 8, its first half."""
    kinds = ("linear_perpetual", "inverse_perpetual", *FUTURES)
    positions, kinds, rides = world(seed, kinds=kinds)
    positions = [replace(p, stop=None) for p in positions]
    record = record_of(sorted(set(kinds)), rides)
    richer = [replace(p, wallet=1.1 * p.wallet) for p in positions]
    poor, rich = (position_outcomes(table_of(book, kinds), record) for book in (positions, richer))
    assert (rich.outcome.values <= poor.outcome.values).all()


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_removing_a_position_leaves_the_others_unchanged_on_their_instruments(seed):
    """Law 2."""
    kinds = ("linear_perpetual", "inverse_perpetual", *FUTURES)
    positions, kinds, rides = world(seed, kinds=kinds)
    record = record_of(sorted(set(kinds)), rides)
    table = table_of(positions, kinds)
    keep = [i for i in range(len(positions)) if i != seed % len(positions)]
    whole, part = (position_outcomes(book, record) for book in (table, table.take(keep)))
    for name in whole.data_vars:
        np.testing.assert_array_equal(part[name].values, whole[name].values[:, keep])
