"""Impact and cascade: against slow declines, rounds, integrals and the conservation of cash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from risk.errors import ConfigError
from risk.liquidation import (
    build_ladders,
    liquidation_curve,
    liquidation_probability,
    position_outcomes,
    position_tails,
    square_root_impact,
    walk,
)
from risk.liquidation.impact import MOST, mean_impact
from risk.measures import expected_shortfall, value_at_risk
from risk.schema import CUBE
from tests.books import book_of, drivers_of, random_path, random_position
from tests.brute import Cascade, CascadeTurn, live_through

seeds = st.integers(0, 2**32 - 1)
ASSETS = ("BTC", "ETH")
AMOUNTS = {"pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional"}


def world(seed, n_positions=24, n_paths=10, jumps=0.4, steps=0.5):
    """Positions over two assets in three books, and their paths."""
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, steps=steps) for _ in range(n_positions)]
    assets = [str(a) for a in rng.choice(ASSETS, n_positions)]
    books = [str(b) for b in rng.choice(["x", "y"], n_positions)]
    paths = {a: [random_path(rng, jumps=jumps) for _ in range(n_paths)] for a in ASSETS}
    return rng, positions, assets, paths, book_of(positions, assets, book=books)


def impact_of(rng, table, **changes):
    """Volumes of the book's own order, so that closing it moves the price by per cents."""
    gross = table["notional_usd"].to_numpy().sum()
    return square_root_impact(
        np.array([0.04, 0.06]), gross * rng.uniform(0.5, 5, 2), coefficient=1.0, **changes
    )


def moved_last(path, cascades, permanent):
    """The path's last price once the permanent share of both cascades' impact is in it."""
    last = path[-1][1]
    for cascade in cascades:
        reached = [1.0, *(x for _, x in path)]
        far = min(reached) if cascade.direction > 0 else max(reached)
        hit = [b for _, level, b in cascade.events if (level - far) * cascade.direction >= 0]
        base = max(hit, default=0.0)
        last *= 1 - cascade.direction * permanent * min(cascade.kappa * base**0.5, 0.9)
    return last


def brute_outcomes(positions, assets, paths, table, impact):
    """One outcome per (position, path) in a cascade."""
    triggers, stops = table["trigger"].to_pylist(), table["stop_trigger"].to_pylist()
    out = {}
    for a, asset in enumerate(ASSETS):
        cascades = []
        for direction in (1, -1):
            mine = [
                p for p, held in enumerate(positions)
                if assets[p] == asset and held.direction == direction
            ]  # fmt: skip
            if mine:
                columns = [[column[p] for p in mine] for column in (positions, triggers, stops)]
                cascades.append((mine, Cascade(*columns, float(impact.kappa[a]))))
        for mine, cascade in cascades:
            for i, path in enumerate(paths[asset]):
                last = moved_last(path, [one for _, one in cascades], impact.permanent)
                for k, p in enumerate(mine):
                    turn = CascadeTurn(cascade, positions[p], cascade.turns[k])
                    out[p, i] = live_through(
                        positions[p], path, triggers[p], stops[p], turn, last_ratio=last
                    )
    return out


@given(seed=seeds)
@example(seed=3306104)  # a fee takes all that closing the rest would leave
@settings(max_examples=25)
def test_a_cascade_equals_brute_force_jumps_and_cuts_included(seed):
    """Law 4 with the cascade on: position by position, and through the ladders."""
    rng, positions, assets, paths, table = world(seed)
    impact = impact_of(rng, table, cascade=True, permanent=0.5)
    brute = brute_outcomes(positions, assets, paths, table, impact)
    drivers = drivers_of(paths)
    out = position_outcomes(table, drivers, impact)
    gross = table["notional_usd"].to_numpy().sum() + np.abs(table["equity_usd"].to_numpy()).sum()
    for (p, i), one in brute.items():
        for name in AMOUNTS:
            assert abs(out[name].values[i, p] - getattr(one, name)) <= 1e-9 * gross, name
        assert out.outcome.values[i, p] == (2 if one.liquidations else 1 if one.stops else 0)
    ladders = build_ladders(table, ASSETS, ["asset", "book"], impact=impact)
    for window in (0, 10**9):
        cube = walk(ladders, drivers, small_window=window)
        for name in CUBE:
            column = {"liquidations": out.outcome == 2, "stops": out.outcome == 1}.get(name)
            total = (out[name] if column is None else column).sum("position").values
            assert np.abs(cube[name].values.sum(axis=1) - total).max() <= 1e-9 * gross, name


@given(seed=seeds)
@settings(max_examples=25)
def test_cash_is_conserved_with_the_cascade_on(seed):
    """Law 3: the drift is what the path, and the impact that stays, did while it was open."""
    rng, positions, assets, paths, table = world(seed, n_positions=12, n_paths=6)
    impact = impact_of(rng, table, cascade=True, permanent=0.3)
    out = position_outcomes(table, drivers_of(paths), impact)
    total = (out.pnl + out.venue_gain - out.deficit + out.market_cost).values
    gross = table["notional_usd"].to_numpy().sum()
    for (p, i), one in brute_outcomes(positions, assets, paths, table, impact).items():
        assert total[i, p] == pytest.approx(one.drift, abs=1e-9 * gross)


@given(seed=seeds)
@settings(max_examples=25)
def test_the_hits_are_where_rounds_of_liquidation_come_to_rest(seed):
    """The fixed point with the fewest liquidations, reached from none, round by round."""
    rng, positions, assets, _, table = world(seed, n_positions=60, steps=0.0)
    impact = impact_of(rng, table, cascade=True)
    triggers, stops = table["trigger"].to_pylist(), table["stop_trigger"].to_pylist()
    prices = [t if s is None else s for t, s in zip(triggers, stops, strict=True)]
    lows = rng.uniform(0.5, 1.0, 12)
    falls = drivers_of({a: [[("drift", float(x))] for x in lows] for a in ASSETS})
    out = position_outcomes(table, falls, impact)
    first_round = position_outcomes(table, falls)
    # Base units are those at the price tested; in the order of the sweep for inverse contracts.
    for a, asset in enumerate(ASSETS):
        mine = [
            p for p, held in enumerate(positions)
            if held.direction > 0 and assets[p] == asset and not held.inverse and prices[p]
        ]  # fmt: skip
        others = [p for p, held in enumerate(positions) if held.inverse and assets[p] == asset]
        if any(positions[p].direction > 0 and prices[p] for p in others):
            continue
        for i, low in enumerate(lows):
            hit, price = set(), low
            while True:
                more = {p for p in mine if price <= prices[p]}
                if more == hit:
                    break
                hit = more
                base = sum(positions[p].size * positions[p].mark for p in hit)
                price = low * (1 - impact.kappa[a] * base**0.5)
            assert {p for p in mine if out.outcome.values[i, p]} == hit
            assert {p for p in mine if first_round.outcome.values[i, p]} <= hit


def test_inside_one_avalanche_the_costs_telescope():
    """Equal levels: together they pay the level times the integral of the impact."""
    rng = np.random.default_rng(3)
    one = random_position(rng)
    base = replace(
        one, inverse=False, direction=1, entry=100.0, mark=100.0, size=10.0, wallet=50.0,
        tiers=((0.0, 0.01, 0.0),), closing_fee=0.0, liquidation_fee=0.0, stop=None,
        fee_in_trigger=0.0, tiers_per_step=None,
    )  # fmt: skip
    book = [replace(base, wallet=50.0 + 0.1 * i) for i in range(20)]
    table = book_of(book, ["BTC"] * 20)
    impact = square_root_impact(np.array([0.05]), np.array([20_000.0]), coefficient=1, cascade=True)
    far = 0.955
    out = position_outcomes(table, drivers_of({"BTC": [[("drift", far)]]}), impact)
    ladders = build_ladders(table, ["BTC"], ["venue"], impact=impact)
    levels = -ladders.plain.sums.first
    assert (levels == levels[0]).all()
    whole = quad(lambda b: impact.kappa[0] * b**0.5, 0, 20_000)[0]
    assert out.market_cost.values.sum() == pytest.approx(levels[0] * whole, rel=1e-9)
    # Every one after the first is closed for less than its collateral, each for less than the last.
    deficits = out.deficit.values[0]
    assert deficits[0] == 0
    assert (np.diff(deficits) > 0).all()


def test_an_avalanche_leaves_deficits_without_any_jump():
    *_, table = world(5, n_positions=80, steps=0.0)
    gross = table["notional_usd"].to_numpy().sum()
    falls = drivers_of({a: [[("drift", 0.7)]] for a in ASSETS})
    deficits = []
    for coefficient in (0.0, 0.5, 2.0):
        impact = square_root_impact(
            np.array([0.05, 0.05]), np.full(2, gross / 5), coefficient=coefficient, cascade=True
        )
        deficits.append(float(position_outcomes(table, falls, impact).deficit.sum()))
    assert deficits == sorted(deficits)
    assert deficits[-1] > deficits[0]


@given(seed=seeds)
@settings(max_examples=20)
def test_a_cascade_never_closes_fewer(seed):
    rng, _, _, paths, table = world(seed)
    impact = impact_of(rng, table, cascade=True)
    drivers = drivers_of(paths)
    alone = position_outcomes(table, drivers).outcome.values
    together = position_outcomes(table, drivers, impact).outcome.values
    assert (together[alone > 0] > 0).all()
    # A stop reached before a jump can save a position from it, so this is not asked of stops.
    without = table["stop_trigger"].is_null().to_numpy()
    chance = liquidation_probability(table, drivers, impact)[without]
    assert (chance >= liquidation_probability(table, drivers)[without] - 1e-12).all()
    moves = [-0.3, -0.1, 0.1, 0.3]
    assert (
        liquidation_curve(table, ASSETS, moves, impact).liquidations
        >= liquidation_curve(table, ASSETS, moves).liquidations
    ).all()


def test_without_impact_a_cascade_changes_no_bit():
    *_, paths, table = world(7, n_positions=200)
    nothing = square_root_impact(np.full(2, 0.05), np.full(2, 1e9), coefficient=0.0, cascade=True)
    drivers = drivers_of(paths)
    plain = walk(build_ladders(table, ASSETS, ["book"]), drivers)
    cascaded = walk(build_ladders(table, ASSETS, ["book"], impact=nothing), drivers)
    for name in CUBE:
        np.testing.assert_array_equal(plain[name].values, cascaded[name].values)


@pytest.mark.parametrize("permanent", [0.0, 0.7])
@given(seed=seeds)
@settings(max_examples=20)
def test_the_tail_of_every_position_is_that_of_its_outcomes_in_a_cascade(permanent, seed):
    """With a permanent share the price can end beyond the path's extreme."""
    rng, _, _, paths, table = world(seed, n_paths=60)
    impact = impact_of(rng, table, cascade=True, permanent=permanent)
    drivers = drivers_of(paths)
    out = position_outcomes(table, drivers, impact)
    tails = position_tails(table, drivers, var_confidence=0.9, es_confidence=0.8, impact=impact)
    pnl, row = out.pnl.values.T, out.row.values
    size = sum(np.abs(table[name].to_numpy()) for name in ("notional_usd", "equity_usd"))[row]
    for name, expected in {
        "value_at_risk": value_at_risk(pnl, 0.9),
        "expected_shortfall": expected_shortfall(pnl, 0.8),
        "expected_deficit": out.deficit.values.mean(axis=0),
    }.items():
        assert (np.abs(tails[name].values[row] - expected) <= 1e-9 * size).all(), name


# -- the position's own impact -------------------------------------------------------------------


@given(seed=seeds, slices=st.integers(1, 6))
@settings(max_examples=25)
def test_own_impact_equals_brute_force(seed, slices):
    rng, positions, assets, paths, table = world(seed)
    impact = impact_of(rng, table, slices=slices, hours=2.0, adverse=1.0)
    out = position_outcomes(table, drivers_of(paths), impact)
    triggers, stops = table["trigger"].to_pylist(), table["stop_trigger"].to_pylist()
    notional = table["notional_usd"].to_numpy()
    gross = notional.sum() + np.abs(table["equity_usd"].to_numpy()).sum()
    for p, held in enumerate(positions):
        a = ASSETS.index(assets[p])
        costly = replace(
            held,
            impact=float(impact.own[a] * (notional[p] / impact.volume_usd[a]) ** 0.5),
            closing_fee=held.closing_fee + float(impact.waiting[a]),
        )
        for i, path in enumerate(paths[assets[p]]):
            one = live_through(costly, path, triggers[p], stops[p])
            for name in AMOUNTS:
                assert abs(out[name].values[i, p] - getattr(one, name)) <= 1e-9 * gross, name


@given(kappa=st.floats(1e-8, 1e-2), base=st.floats(0, 1e9), quantity=st.floats(1.0, 1e9))
@settings(max_examples=100)
def test_the_mean_impact_is_its_integral(kappa, base, quantity):
    knee = (MOST / kappa) ** 2
    points = [knee] if base < knee < base + quantity else None
    area = quad(
        lambda b: min(kappa * b**0.5, MOST),
        base,
        base + quantity,
        points=points,
        epsabs=0,
        epsrel=1e-10,
        limit=500,
    )[0]
    assert mean_impact(kappa, base, quantity) == pytest.approx(area / quantity, rel=1e-7)


def test_waiting_costs_the_spread_of_the_average_price():
    """Of a random walk seen at four times, an hour from first to last."""
    impact = square_root_impact(
        np.array([0.04]), np.array([1.0]), coefficient=0, slices=4, hours=1.0, adverse=1.0
    )
    walk_ = np.random.default_rng(1).normal(0, 0.04 * np.sqrt(1 / 24 / 3), (400_000, 3))
    seen = np.cumsum(np.insert(walk_, 0, 0.0, axis=1), axis=1).mean(axis=1)
    assert impact.waiting[0] == pytest.approx(seen.std(), rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coefficient": -0.1}, "coefficient is -0.1; write a number from 0 up"),
        ({"permanent": 1.5}, "permanent is 1.5; write a share from 0 to 1"),
        ({"slices": 0}, "slices is 0; write 1 or more"),
        ({"slices": 2, "cascade": True}, "slices need cascade: false"),
        ({"volume_usd": np.array([0.0])}, "no volume above zero"),
        ({"volatility": np.array([np.nan])}, "no volatility; lengthen the history"),
    ],
)
def test_impossible_impact_is_refused(changes, message):
    good = {"volatility": np.array([0.04]), "volume_usd": np.array([1e9]), "coefficient": 0.5}
    with pytest.raises(ConfigError, match=message):
        square_root_impact(**(good | changes))
