"""Account pools whose contracts pay funding, have a basis and expire, against their slow twin.

The twin pays out of the pool at every settlement and marks each contract by itself; it shares no
code with `risk`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.drivers import JointPaths, make_drivers, most_ridden
from risk.instruments import Instrument, add_instruments, asset_of, instrument_name, joint_record
from risk.liquidation import position_outcomes
from risk.liquidation.cross import (
    among_shown,
    leg_outcomes,
    live_pools,
    read_pools,
    shown_drivers,
)
from risk.scenarios.carry import ride_bars
from risk.scenarios.moves import Ratios, gap_rule
from tests.books import random_position
from tests.cross_twin import live_pool
from tests.pools import ASSETS, MARK, paths_of, random_frames
from tests.test_carry import COIN, DUE, FAR, SWAP, draw, market
from tests.test_cross_book import cross_twin, fresh, table_of

SEEDS = st.integers(0, 2**32 - 1)
NO_GAPS = {
    name: np.empty(0)
    for name in ("gap_scenario", "gap_asset", "gap_direction", "gap_before", "gap_landing")
}


def contract_of(asset, kind):
    """Settle currency, symbol, instrument."""
    settle = asset if kind.startswith("inverse") else "USDT"
    quote = "USD" if kind.startswith("inverse") else "USDT"
    expiry = "-250926" if kind.endswith("future") else ""
    symbol = f"{asset}/{quote}:{settle}{expiry}"
    return settle, symbol, instrument_name(asset, settle, kind, symbol)


def dated(rng, twin):
    """A kind for every position of a twin."""
    return {
        name: ("inverse" if one.inverse else "linear") + str(rng.choice(["_perpetual", "_future"]))
        for name, (_, one) in twin.positions.items()
    }


def book_on(twin, kinds):
    """The pool's book with its contracts named."""
    book = table_of([twin])
    found = [contract_of(asset, kinds[name]) for name, (asset, _) in twin.positions.items()]
    for column, values in (
        ("settle", [one[0] for one in found]),
        ("symbol", [one[1] for one in found]),
        ("kind", list(kinds.values())),
    ):
        at = book.schema.get_field_index(column)
        field = book.schema.field(at)
        book = book.set_column(at, field, pa.array(values, pa.string()).cast(field.type))
    return book, [one[2] for one in found]


def drawn_frames(rng, n):
    """Calm paths and wild ones."""
    return random_frames(
        rng, n, jumps=bool(rng.random() < 0.5), spread=float(rng.choice([0.005, 0.02, 0.05]))
    )


def random_turns(rng, frames, names):
    """What the instruments do after each frame: payments, a basis that moves, an expiry."""
    turns, ended = [], set()
    for _ in frames:
        turn = {"fund": {}, "basis": {}, "expire": []}
        if rng.random() < 0.6:
            for name in names:
                if name in ended:
                    continue
                if "perpetual" in name:
                    turn["fund"][name] = float(rng.normal(0, 0.08))
                else:
                    turn["basis"][name] = float(1 + rng.normal(0, 0.02))
                    if rng.random() < 0.15:
                        turn["expire"].append(name)
                        ended.add(name)
        turns.append(turn)
    return turns


def told(frames, turns, instrument):
    """The twin's frames: what happens to every position's own instrument."""
    return [
        frame
        | {
            "fund": {p: turn["fund"][i] for p, i in instrument.items() if i in turn["fund"]},
            "basis": {p: turn["basis"][i] for p, i in instrument.items() if i in turn["basis"]},
            "expire": [p for p, i in instrument.items() if i in turn["expire"]],
        }
        for frame, turn in zip(frames, turns, strict=True)
    ]


def with_rides(paths, frames, turns, names):
    """The kernel's joint paths of one scenario, and where each instrument ends."""
    n = len(names)
    state, end = np.zeros((n, 3)), np.full(n, len(frames) + 5)
    state[:, 0] = 1.0
    states, last = [state.copy()], np.zeros(n)
    for f, (frame, turn) in enumerate(zip(frames, turns, strict=True)):
        x = frame["jumps"][-1] if frame["jumps"] else frame["last"]
        for i, name in enumerate(names):
            at = x[asset_of(name)]
            if end[i] < f:
                continue
            rate = turn["fund"].get(name, 0.0)
            if name.endswith(f" {asset_of(name)}"):
                state[i, 2] += rate / (state[i, 0] * at)
            else:
                state[i, 1] += rate * state[i, 0] * at
            state[i, 0] = turn["basis"].get(name, state[i, 0])
            g, paid, owed = state[i]
            last[i] = g * at / (1 + owed * at) - paid
            if name in turn["expire"]:
                end[i] = f
        states.append(state.copy())
    ride = np.stack(states)[:, None]
    most = most_ridden(ride)
    most[:, end < len(frames), 1] = 1e30
    return paths._replace(
        ride=np.ascontiguousarray(ride), ride_most=most,
        ride_state=np.arange(len(frames) + 1), ride_end=end,
    ), last  # fmt: skip


def record_on(names, x, last):
    """A driver record of one scenario that says no more than where everything ends."""
    low, high = np.minimum(x, 1.0)[None], np.maximum(x, 1.0)[None]
    record = make_drivers(low, high, x[None], assets=ASSETS, label=["one"], source=["drawn"])
    y = np.maximum(last, 1e-6)
    return add_instruments(
        record, names, np.minimum(y, 1.0)[None], np.maximum(y, 1.0)[None], y[None], NO_GAPS
    )


def rode(seed, n_frames=6, **wanted):
    """A pool through a path with carry: twin, its result, the engine's legs and their status."""
    rng = np.random.default_rng(seed)
    twin = cross_twin(rng, **wanted)
    if twin.excess(dict.fromkeys(ASSETS, 1.0)) <= 0:
        return None
    kinds = dated(rng, twin)
    frames, here = drawn_frames(rng, n_frames)
    book, own = book_on(fresh(twin), kinds)
    instrument = dict(zip(twin.positions, own, strict=True))
    names = sorted(set(own))
    turns = random_turns(rng, frames, names)
    paths, last = with_rides(paths_of([frames]), frames, turns, names)
    x = np.array([here[a] for a in ASSETS])
    record = record_on(names, x, last)
    pools = read_pools(book, [*ASSETS, *names])
    _, amounts, status = leg_outcomes(pools, record, live_pools(pools, paths))
    slow = live_pool(twin, told(frames, turns, instrument), ASSETS, here, worst=True)
    return twin, slow, amounts[:, 0], status[0], book, instrument


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_pools_that_pay_funding_and_lose_a_basis_on_the_way_equal_the_twin(seed):
    found = rode(seed)
    if found is None:
        return
    twin, slow, amounts, status, book, _ = found
    scale = 1e-9 * (np.abs(book["exposure_usd"].to_numpy()).sum() + abs(twin.cash))
    assert amounts[0].sum() == pytest.approx(slow["pnl"], abs=scale)
    assert amounts[1].sum() == pytest.approx(slow["venue_gain"], abs=scale)
    assert amounts[2].sum() == pytest.approx(slow["deficit"], abs=scale)
    assert amounts[3].tolist() == pytest.approx(list(twin.costs.values()), abs=scale)
    assert amounts[4].tolist() == pytest.approx(list(twin.closed.values()), abs=scale)
    assert (status == 1).sum() == twin.stops
    assert (status == 2).any() == any(v > 0 for v in twin.closed.values())


def test_the_drawn_pools_die_of_funding_and_live_by_it():
    """The property above is about something: funding decides pools both ways, and futures end."""
    rng = np.random.default_rng(0)
    more = fewer = ended = 0
    for seed in rng.integers(0, 2**32, 200):
        found = rode(int(seed))
        if found is None:
            continue
        twin, slow, *_ = found
        drawn = np.random.default_rng(int(seed))
        same = cross_twin(drawn)
        dated(drawn, same)
        frames, here = drawn_frames(drawn, 6)
        plain = live_pool(same, frames, ASSETS, here, worst=True)
        more += slow["died"] and not plain["died"]
        fewer += plain["died"] and not slow["died"]
        ended += len(twin.stopped) > twin.stops
    assert more > 3
    assert fewer > 0
    assert ended > 10


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_cash_is_conserved_with_what_funding_moves(seed):
    """Law 3: holder + venue - deficit + cost + funding paid is exposure times the mark's change."""
    rng = np.random.default_rng(seed)
    twin = cross_twin(rng, extra=False, stops=False)
    linear = {
        name: (asset, replace(one, inverse=False, size=one.size / (MARK if one.inverse else 1)))
        for name, (asset, one) in twin.positions.items()
    }
    twin = type(twin)(linear, [], twin.cash, twin.to_holder, twin.marks)
    if twin.excess(dict.fromkeys(ASSETS, 1.0)) <= 0:
        return
    frames, here = drawn_frames(rng, 6)
    book, own = book_on(fresh(twin), dict.fromkeys(linear, "linear_perpetual"))
    instrument = dict(zip(linear, own, strict=True))
    names = sorted(set(own))
    turns = random_turns(rng, frames, names)
    paths, last = with_rides(paths_of([frames]), frames, turns, names)
    record = record_on(names, np.array([here[a] for a in ASSETS]), last)
    pools = read_pools(book, [*ASSETS, *names])
    _, amounts, _ = leg_outcomes(pools, record, live_pools(pools, paths))
    live_pool(twin, told(frames, turns, instrument), ASSETS, here, worst=True)
    amounts = amounts[:, 0]
    exposure, notional = (book[name].to_numpy() for name in ("exposure_usd", "notional_usd"))
    x = np.array([here[asset] for asset in book["asset"].to_pylist()])
    x = np.where(amounts[4] > 0, amounts[4] / notional, x)
    moved = (exposure * (x - 1.0)).sum()
    total = (amounts[0] + amounts[1] - amounts[2] + amounts[3]).sum() + sum(twin.paid.values())
    assert total == pytest.approx(moved, abs=1e-9 * notional.sum())


# -- bars ----------------------------------------------------------------------------------------


def bar_of(rng, names, gap):
    """A bar of the assets with its rule for funding and basis: a record, and the twin's states."""
    last = np.exp(rng.normal(0, 0.1, len(ASSETS)))
    low = np.minimum(np.minimum(last, 1.0) * np.exp(-np.abs(rng.normal(0, 0.1, 3))), 1.0)
    high = np.maximum(np.maximum(last, 1.0) * np.exp(np.abs(rng.normal(0, 0.1, 3))), 1.0)
    moves = Ratios(low[None], high[None], last[None])
    listed = [
        Instrument(name, asset_of(name), name.rpartition(" ")[2],
                   name.endswith(f" {asset_of(name)}"), 1e-4, 0.02 * ("perp" not in name),
                   None if "perp" in name else 30.0)
        for name in names
    ]  # fmt: skip
    rates = np.array([float(rng.normal(0, 0.02)) if one.is_perpetual else 0.0 for one in listed])
    ridden = ride_bars(moves, ASSETS, listed, rates[None], horizon_days=1)
    record = make_drivers(
        *moves, assets=ASSETS, label=["one"], source=["drawn"], gaps=gap_rule(moves, gap)
    )
    record = add_instruments(record, names, *ridden, gap_rule(ridden, gap))
    fall = (1 + 0.02 * 29 / 30) / 1.02  # what a day takes of a basis of two percent
    extremes = {"low": low, "high": high, "last": last}

    def state(which, share=1.0):
        """At an extreme, or as far on the way to it."""
        x = 1.0 + share * (extremes[which] - 1.0)
        there = dict(zip(ASSETS, map(float, x), strict=True))
        for one, rate in zip(listed, rates, strict=True):
            at = float(x[ASSETS.index(one.asset)])
            if not one.is_perpetual:
                # The basis is gone where that is worse: at the low and at the end.
                whole = extremes[which][ASSETS.index(one.asset)]
                whole = min(whole * (fall if which != "high" else 1.0), 1e9)
                there["mark", one.name] = 1.0 + share * (float(whole) - 1.0)
                there["owed", one.name] = 0.0
                continue
            end = float(extremes["last"][ASSETS.index(one.asset)])
            unit = rate * ((1 + 1 / end) if one.is_inverse else (1 + end)) / 2
            owed = max(unit, 0.0) if which == "low" else min(unit, 0.0) if which == "high" else unit
            there["mark", one.name] = at
            if one.is_inverse:
                # The way is one of the price less what was paid, as of an isolated position.
                whole = extremes[which][ASSETS.index(one.asset)]
                owed = 1 / (1 + share * (whole / (1 + owed * whole) - 1)) - 1 / at
            there["owed", one.name] = (owed, one.is_inverse, 1.0 if one.is_inverse else share)
        return there

    return record, state


def own_state(twin, instrument, there):
    """A state with the marks and the dollars owed of every position of a pool."""
    mine = {a: there[a] for a in ASSETS}
    for name, (asset, position) in twin.positions.items():
        mine["mark", name] = there["mark", instrument[name]]
        owed = there["owed", instrument[name]]
        if owed:
            unit, is_inverse, share = owed
            head = position.direction * position.size
            # In coin one pays a share of the face, in dollars a share of the mark at the snapshot.
            mine["owed", name] = head * share * unit * (there[asset] if is_inverse else MARK)
        else:
            mine["owed", name] = 0.0
    return mine


@pytest.mark.parametrize("gap", [0.0, 0.3])
@given(SEEDS)
@settings(max_examples=80, deadline=None)
def test_a_bar_owes_pools_funding_where_it_makes_them_worse(gap, seed):
    rng = np.random.default_rng(seed)
    twin = cross_twin(rng)
    if twin.excess(dict.fromkeys(ASSETS, 1.0)) <= 0:
        return
    kinds = dated(rng, twin)
    kinds = {n: "inverse_perpetual" if k == "inverse_future" else k for n, k in kinds.items()}
    book, own = book_on(fresh(twin), kinds)
    instrument = dict(zip(twin.positions, own, strict=True))
    names = sorted(set(own))
    record, state = bar_of(rng, names, gap)
    frame = {"jumps": [], "falls": [], "rises": []}
    for which in ("low", "high", "last"):
        frame[which] = own_state(twin, instrument, state(which))
    if gap:
        for way, which in (("falls", "low"), ("rises", "high")):
            before = own_state(twin, instrument, state(which, 1 - gap))
            frame[way].append((before, frame[which]))
    found = position_outcomes(book, record)
    slow = live_pool(twin, [frame], ASSETS, frame["last"], worst=True)
    scale = 1e-9 * (np.abs(book["exposure_usd"].to_numpy()).sum() + abs(twin.cash))
    assert float(found.pnl.sum()) == pytest.approx(slow["pnl"], abs=scale)
    assert float(found.deficit.sum()) == pytest.approx(slow["deficit"], abs=scale)
    assert float(found.venue_gain.sum()) == pytest.approx(slow["venue_gain"], abs=scale)
    assert int((found.outcome == 1).sum()) == twin.stops


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_pool_of_one_position_is_the_isolated_position_on_its_instrument(seed):
    """Where folding is exact: linear, requirements on the entry value, no fee, no stop."""
    rng = np.random.default_rng(seed)
    one = replace(
        random_position(rng, mark=MARK, steps=0.0), entry_basis=True, fee_in_trigger=0.0,
        closing_fee=0.0, liquidation_fee=0.0, stop=None,
    )  # fmt: skip
    if one.inverse or one.excess(MARK) <= 0:
        return
    twin = cross_twin(rng, n=1)
    pooled = type(twin)(
        {"p": ("BTC", replace(one, wallet=0.0))}, [], one.wallet, one.to_holder, twin.marks
    )
    kind = str(rng.choice(["linear_perpetual", "linear_future"]))
    book, names = book_on(pooled, {"p": kind})
    alone, _ = book_on(type(twin)({}, [], 0.0, True, twin.marks), {})
    alone = table_of([], [one])
    for column in ("settle", "symbol", "kind"):
        at = alone.schema.get_field_index(column)
        alone = alone.set_column(at, alone.schema.field(at), book[column])
    record, _ = bar_of(rng, names, 0.3)
    single, shared = (position_outcomes(some, record) for some in (alone, book))
    usd = alone["notional_usd"][0].as_py()
    for name in ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional"):
        if name == "liquidated_notional":
            continue  # at the mark in a pool, less what was paid alone
        np.testing.assert_allclose(
            shared[name].values, single[name].values, atol=1e-9 * usd, rtol=0, err_msg=name
        )
    np.testing.assert_array_equal(shared.outcome.values, single.outcome.values)


# -- simulated paths -----------------------------------------------------------------------------

RIDDEN = (SWAP, COIN, FAR, DUE)


@pytest.fixture(scope="module")
def drawn():
    busy = market(common_intensity=1.0)
    tiles = []
    record = draw(
        400, instruments=RIDDEN, calibration=busy, basis_volatility=0.01,
        watch=lambda first, paths: tiles.append((first, paths)),
    )  # fmt: skip
    return record, tiles


def test_showing_paths_with_their_instruments_changes_no_draw(drawn):
    record, _ = drawn
    plain = draw(
        400, instruments=RIDDEN, calibration=market(common_intensity=1.0), basis_volatility=0.01
    )
    assert plain.identical(record)


def test_the_states_of_the_instruments_are_those_their_record_was_made_of(drawn):
    """Low, high and end of every instrument, from the joint paths and nothing else."""
    record, tiles = drawn
    names = [str(name) for name in record["asset"].values]
    for first, paths in tiles:
        for s in range(0, len(paths.low), 7):
            for r, one in enumerate(RIDDEN):
                a = names.index(one.asset)
                low, high, last = trace(paths, s, r, a)
                mine = record.isel(scenario=first + s, asset=2 + r)
                assert low == pytest.approx(float(mine.low), rel=1e-12), one.name
                assert high == pytest.approx(float(mine.high), rel=1e-12), one.name
                assert last == pytest.approx(float(mine["last"]), rel=1e-12), one.name


def trace(paths: JointPaths, s, r, a):
    low = high = last = 1.0
    n_frames = paths.low.shape[1]
    for f in range(n_frames):
        if f > paths.ride_end[r]:
            break

        def ratio(x, f=f):
            g, paid, owed = paths.ride[paths.ride_state[f], s, r]
            return g * x / (1 + owed * x) - paid

        x = paths.last[s, f, a]
        seen = [ratio(paths.low[s, f, a]), ratio(paths.high[s, f, a]), ratio(x)]
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            for j in range(paths.jump_start[g], paths.jump_start[g + 1]):
                if paths.jump_asset[j] == a:
                    x = paths.jump_to[j]
                    seen.append(ratio(x))
        seen.append(ratio(x, f + 1))
        low, high, last = min(low, *seen), max(high, *seen), seen[-1]
    return low, high, last


def test_what_is_not_shown_is_not_there_and_what_is_shown_is_the_same(drawn):
    _, tiles = drawn
    few = []
    draw(
        400, instruments=RIDDEN, calibration=market(common_intensity=1.0), basis_volatility=0.01,
        watch=lambda first, paths: few.append((first, paths)), shown=[0, 2, 3],
    )  # fmt: skip
    for (_, whole), (_, part) in zip(tiles, few, strict=True):
        np.testing.assert_array_equal(part.low, whole.low[..., :1])
        np.testing.assert_array_equal(part.ride, whole.ride[:, :, :2])
        np.testing.assert_array_equal(part.jump_to, whole.jump_to[whole.jump_asset == 0])


@pytest.mark.parametrize("kind", ["linear_perpetual", "inverse_perpetual", "linear_future"])
def test_a_pool_of_one_position_on_the_paths_is_the_isolated_position(drawn, kind):
    """Statuses for all kinds; amounts of linear ones, and in coin of inverse ones."""
    record, tiles = drawn
    of = {"linear_perpetual": SWAP, "inverse_perpetual": COIN, "linear_future": DUE}
    one = of[kind]
    names = [str(name) for name in record["asset"].values]
    rng = np.random.default_rng(8)
    hit = 0
    for _ in range(12):
        position = replace(
            random_position(rng, mark=MARK, steps=0.0), entry_basis=True, fee_in_trigger=0.0,
            closing_fee=0.0, liquidation_fee=0.0, stop=None, inverse=one.is_inverse,
        )  # fmt: skip
        size = position.size if position.size < 1e3 else position.size / MARK
        position = replace(position, size=size * MARK if one.is_inverse else size)
        value = position.value(MARK)
        position = replace(position, wallet=0.06 * value, entry=MARK)
        if position.excess(MARK) <= 0:
            continue
        alone = table_of([], [position])
        text = {"settle": one.settle, "kind": kind, "asset": one.asset}
        text["symbol"] = f"{one.asset}/X:{one.settle}-{one.name.split()[2]}"
        for column, said in text.items():
            at = alone.schema.get_field_index(column)
            field = alone.schema.field(at)
            alone = alone.set_column(at, field, pa.array([said], pa.string()).cast(field.type))
        coins = f'[["{one.asset}",{position.wallet * MARK},0.0]]'
        cash = f"[[null,{position.wallet},0.0]]"
        shared = alone
        gained = value * MARK if one.is_inverse else value
        for column, said in (
            ("pool_holdings", coins if one.is_inverse else cash),
            ("exposure_usd", position.direction * gained),
        ):
            at = shared.schema.get_field_index(column)
            field = shared.schema.field(at)
            shared = shared.set_column(at, field, pa.array([said]).cast(field.type))
        single = position_outcomes(alone, record)
        pools = read_pools(shared, names)
        shown = shown_drivers(pools)
        few = among_shown(pools, shown)
        for first, paths in tiles:
            part = record.isel(scenario=slice(first, first + len(paths.low)), gap=slice(0, 0))
            kept = cut(paths, shown, 2)
            _, amounts, status = leg_outcomes(pools, part, live_pools(few, kept))
            own = single.isel(scenario=slice(first, first + len(paths.low)))
            np.testing.assert_array_equal(status[:, 0], own.outcome.values[:, 0])
            hit += int((status == 2).sum())
            if not one.is_inverse:
                for row, name in ((0, "pnl"), (2, "deficit")):
                    np.testing.assert_allclose(
                        amounts[row][:, 0], own[name].values[:, 0], atol=1e-9 * value
                    )
                continue
            # Coin is worth the asset here, the instrument there: where it lives, the same coin.
            lives = own.outcome.values[:, 0] == 0
            e0 = position.wallet * MARK
            x, y = (part["last"].sel(asset=n).values for n in (one.asset, one.name))
            here, there = (amounts[0][:, 0] + e0) / x, (own.pnl.values[:, 0] + e0) / y
            np.testing.assert_allclose(here[lives], there[lives], atol=1e-9 * value * MARK)
    assert hit > 20


def cut(paths, shown, n_assets):
    """Joint paths of some of their drivers."""
    a = shown[shown < n_assets]
    r = shown[shown >= n_assets] - n_assets
    kept = np.isin(paths.jump_asset, a)
    start = np.append(0, np.cumsum(kept))[paths.jump_start]
    return paths._replace(
        **{n: np.ascontiguousarray(getattr(paths, n)[..., a])
           for n in ("low", "high", "last", "falls", "rises")},
        jump_start=start, jump_asset=np.searchsorted(a, paths.jump_asset[kept]),
        jump_to=paths.jump_to[kept], ride=np.ascontiguousarray(paths.ride[:, :, r]),
        ride_most=np.ascontiguousarray(paths.ride_most[:, r]), ride_end=paths.ride_end[r],
    )  # fmt: skip


def test_instruments_that_stand_for_assets_are_shown_as_those():
    """A cascade has one price per asset: its low, high and end, step by step, payments as jumps."""
    stands, tiles = (SWAP, replace(COIN, name="A1 / perpetual A1", asset="A1", settle="A1")), []
    record = draw(
        300, instruments=stands, calibration=market(common_intensity=1.0), as_assets=True,
        watch=lambda first, paths: tiles.append((first, paths)),
    )  # fmt: skip
    for first, paths in tiles:
        low, high = paths.low.min(axis=1), paths.high.max(axis=1)
        last, n_frames = paths.last[:, -1].copy(), paths.low.shape[1]
        for s in range(len(paths.low)):
            for f in range(n_frames):
                place = s * n_frames + f
                for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
                    moved = slice(paths.jump_start[g], paths.jump_start[g + 1])
                    a, to = paths.jump_asset[moved], paths.jump_to[moved]
                    low[s, a], high[s, a] = np.minimum(low[s, a], to), np.maximum(high[s, a], to)
                    if f == n_frames - 1:
                        last[s, a] = to
        mine = record.isel(scenario=slice(first, first + len(low)))
        np.testing.assert_allclose(np.minimum(low, 1.0), mine["low"].values, rtol=1e-12)
        np.testing.assert_allclose(np.maximum(high, 1.0), mine["high"].values, rtol=1e-12)
        np.testing.assert_allclose(last, mine["last"].values, rtol=1e-12)
        assert paths.ride.shape[2] == 0


def test_a_bar_without_carry_is_the_bar_of_its_assets():
    one = np.full((2, 1), 0.9)
    record = make_drivers(one * 0.9, one + 0.2, one, assets=["BTC"], label=["a", "b"],
                          source=["by hand"] * 2)  # fmt: skip
    both = add_instruments(
        record, ["BTC / perpetual USDT", "BTC / 250926 BTC"],
        *(np.repeat(part, 2, axis=1) for part in (one * 0.9, one + 0.2, one)), NO_GAPS,
    )  # fmt: skip
    ride = joint_record(both).ride
    np.testing.assert_array_equal(ride, np.broadcast_to([1.0, 0.0, 0.0], ride.shape))
