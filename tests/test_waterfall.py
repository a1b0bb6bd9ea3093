"""Deficits: fund first, then the winners on the other side; cash is conserved at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.liquidation import auto_deleverage, position_outcomes, square_root_impact
from tests.books import book_of, drivers_of, random_path, random_position
from tests.waterfall_twin import Closed, Open, earned, settle

seeds = st.integers(0, 2**32 - 1)
ASSETS = ("BTC", "ETH")
VENUES = ("north", "south")


def world(seed, n_positions=60, n_paths=6, steps=0.0):
    """Positions of four contracts on two venues; jumps, so that there are deficits."""
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, steps=steps) for _ in range(n_positions)]
    assets = [str(a) for a in rng.choice(ASSETS, n_positions)]
    labels = {
        "venue": [str(v) for v in rng.choice(VENUES, n_positions)],
        "symbol": [f"{a}{'-inverse' * p.inverse}" for a, p in zip(assets, positions, strict=True)],
        "account": [f"a{i}" for i in rng.integers(0, 20, n_positions)],
    }
    paths = {a: [random_path(rng, jumps=0.7, spread=0.12) for _ in range(n_paths)] for a in ASSETS}
    table = book_of(positions, assets, **labels)
    funds = {venue: float(rng.choice([0.0, 50.0, 5000.0, 1e9])) for venue in VENUES}
    return positions, assets, labels, paths, table, funds


def closing_ratio(position, path, triggers):
    """Where a position that is closed whole is closed: its trigger, or where a jump lands."""
    level = triggers[0] if triggers[1] is None else triggers[1]
    for kind, target in path:
        if (target - level) * position.direction <= 0:
            return target if kind == "jump" else level
    return None


def scenario(i, positions, assets, labels, paths, table, out):
    """Closings in order and open positions of one scenario, as the twin wants them."""
    triggers = list(
        zip(table["trigger"].to_pylist(), table["stop_trigger"].to_pylist(), strict=True)
    )
    closings, alive = [], {}
    for p, position in enumerate(positions):
        path = paths[assets[p]][i]
        reached = [1.0, *(x for _, x in path)]
        against = min(reached) if position.direction > 0 else max(reached)
        other = max(reached) if position.direction > 0 else min(reached)
        where = (labels["venue"][p], labels["symbol"][p])
        if out.outcome.values[i, p] == 0:
            alive[p] = Open(position, *where, rank_at=other)
            continue
        ratio = closing_ratio(position, path, triggers[p])
        gain, deficit = out.venue_gain.values[i, p], out.deficit.values[i, p]
        if gain or deficit:
            way = (ratio - 1) / (against - 1)
            closings.append((way, Closed(p, position, ratio, gain, deficit, *where)))
    return [one for _, one in sorted(closings, key=lambda pair: (pair[0], pair[1].name))], alive


@given(seed=seeds)
@settings(max_examples=40)
def test_the_waterfall_equals_purses_that_cash_moves_between(seed):
    """Venue by venue, account by account; cash is conserved to the cent at every move."""
    positions, assets, labels, paths, table, funds = world(seed)
    drivers = drivers_of(paths)
    out = position_outcomes(table, drivers)
    found = auto_deleverage(table, drivers, funds)
    venues, accounts = found.venues.to_pandas(), found.accounts.to_pandas()
    gross = table["notional_usd"].to_numpy().sum()
    for i in range(drivers.sizes["scenario"]):
        closings, alive = scenario(i, positions, assets, labels, paths, table, out)
        purses, parts = settle(closings, alive, funds)
        for venue in VENUES:
            row = venues[(venues.scenario == i) & (venues.venue == venue)]
            mine = [one for one in closings if one.venue == venue]
            spent = purses["fund", venue] - funds[venue] - sum(one.gain for one in mine)
            assert row.paid_by_fund.sum() == pytest.approx(-spent, abs=1e-9 * gross)
            unpaid = -purses.get(("unpaid", venue), 0.0)
            assert row.unpaid.sum() == pytest.approx(unpaid, abs=1e-9 * gross)
        mine = (
            accounts[accounts.scenario == i]
            .groupby("account")[["deleveraged_notional", "paid", "missed"]]
            .sum()
        )
        given = {name: sum(part[2] for part in some) for name, some in parts.items()}
        notional = {
            name: sum(
                part * (1 if positions[name].inverse else ratio * positions[name].mark)
                for part, ratio, _ in some
            )
            for name, some in parts.items()
        }
        for account in set(labels["account"]):
            names = [p for p in parts if labels["account"][p] == account]
            row = mine.loc[account] if account in mine.index else {}
            tolerance = {"abs": 1e-9 * gross}
            paid = sum(given[p] for p in names)
            assert row.get("paid", 0.0) == pytest.approx(paid, **tolerance)
            closed = sum(notional[p] for p in names)
            assert row.get("deleveraged_notional", 0.0) == pytest.approx(closed, **tolerance)
            # What the holder has at the horizon: P&L as if nothing happened, less both columns.
            after = sum(earned(positions[p], parts[p], paths[assets[p]][i][-1][1]) for p in names)
            before = sum(out.pnl.values[i, p] for p in names)
            lost = row.get("paid", 0.0) + row.get("missed", 0.0)
            assert before - lost == pytest.approx(after, **tolerance)


@given(seed=seeds)
@settings(max_examples=40)
def test_every_deficit_is_paid_by_somebody_or_named_unpaid(seed):
    """Cuts and the cascade included; the fund never goes below zero."""
    *_, paths, table, funds = world(seed, steps=0.5)
    gross = table["notional_usd"].to_numpy().sum()
    impact = square_root_impact(np.full(2, 0.05), np.full(2, gross), coefficient=1.0, cascade=True)
    drivers = drivers_of(paths)
    out = position_outcomes(table, drivers, impact)
    found = auto_deleverage(table, drivers, funds, impact)
    venues, accounts = found.venues.to_pandas(), found.accounts.to_pandas()
    payers = venues.paid_by_fund + venues.paid_by_winners + venues.unpaid
    np.testing.assert_allclose(venues.deficit, payers, rtol=0, atol=1e-9 * gross)
    end = venues.fund_before + venues.inflow - venues.paid_by_fund
    assert (end >= -1e-9 * (gross + venues.fund_before)).all()
    # The fund is used up before a winner pays.
    assert (venues.fund_before + venues.inflow >= venues.paid_by_fund - 1e-9 * gross).all()
    whole = venues.groupby("scenario")[["deficit", "inflow"]].sum()
    np.testing.assert_allclose(
        whole.deficit, out.deficit.sum("position").values[whole.index], atol=1e-9 * gross
    )
    np.testing.assert_allclose(
        whole.inflow, out.venue_gain.sum("position").values[whole.index], atol=1e-9 * gross
    )
    for column in ("paid", "deleveraged_notional"):
        one = venues["paid_by_winners" if column == "paid" else column].sum()
        assert accounts[column].sum() == pytest.approx(one, abs=1e-9 * gross)
    assert (accounts.paid >= 0).all()


def test_a_fund_that_suffices_leaves_the_winners_alone():
    *_, paths, table, _ = world(3)
    found = auto_deleverage(table, drivers_of(paths), dict.fromkeys(VENUES, 1e12))
    assert found.venues["deficit"].to_numpy().sum() > 0
    some = auto_deleverage(table, drivers_of(paths), {}).accounts
    # Of the same columns: a night joins the scenarios that cut nobody with those that do.
    assert found.accounts.num_rows == 0 < some.num_rows
    assert found.accounts.schema == some.schema
    assert not found.venues["unpaid"].to_numpy().any()


def one_contract(**changes):
    rng = np.random.default_rng(3)
    base = replace(
        random_position(rng), inverse=False, direction=1, entry=100.0, mark=100.0, size=1.0,
        wallet=10.0, tiers=((0.0, 0.01, 0.0),), closing_fee=0.0, liquidation_fee=0.0, stop=None,
        fee_in_trigger=0.0, entry_basis=False, fee_at_bankruptcy=False, tiers_per_step=None,
    )  # fmt: skip
    return replace(base, **changes)


def test_the_best_return_times_leverage_is_cut_first_at_the_bankruptcy_price():
    """By hand: a long of 1, collateral 10, falls from 100 to 80 in one jump: its deficit is 10."""
    book = [
        one_contract(),
        one_contract(direction=-1, entry=100.0, wallet=50.0, size=0.6),  # 20 % x 0.77
        one_contract(direction=-1, entry=110.0, wallet=12.0, size=0.6),  # 27 % x 1.6
    ]
    table = book_of(book, ["BTC"] * 3, account=["loser", "second", "first"])
    drivers = drivers_of({"BTC": [[("jump", 0.8), ("drift", 0.9)]]})
    found = auto_deleverage(table, drivers, {"all": 0.0})
    rows = {row["account"]: row for row in found.accounts.to_pylist()}
    assert rows["first"]["deleveraged_notional"] == pytest.approx(0.6 * 80)
    assert rows["second"]["deleveraged_notional"] == pytest.approx(0.4 * 80)
    # Closed at the long's bankruptcy price, 90, instead of 80.
    assert rows["first"]["paid"] == pytest.approx(0.6 * 10)
    # A short that was closed at 80 has missed the rise to 90, which would have cost it.
    assert rows["first"]["missed"] == pytest.approx(-0.6 * 10)
    venue = found.venues.to_pylist()[0]
    assert venue["unpaid"] == pytest.approx(0.0, abs=1e-12)
    assert (venue["deleveraged_positions"], venue["deleveraged_accounts"]) == (2, 2)
    half = auto_deleverage(table, drivers, {"all": 5.0}).venues.to_pylist()[0]
    assert (half["paid_by_fund"], half["paid_by_winners"]) == pytest.approx((5.0, 5.0))
    assert half["deleveraged_notional"] == pytest.approx(0.5 * 80)


def test_without_a_counterparty_the_deficit_stays_unpaid():
    table = book_of([one_contract()], ["BTC"])
    drivers = drivers_of({"BTC": [[("jump", 0.8)]]})
    row = auto_deleverage(table, drivers, {}).venues.to_pylist()[0]
    assert row["unpaid"] == row["deficit"] == pytest.approx(10.0)
