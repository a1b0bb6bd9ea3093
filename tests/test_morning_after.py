"""The morning after 2022-11-07: the crash of the next two days, on the book of that night.

The moves are real: hourly marks where there are some, else daily lows and highs. What they must
liquidate is counted from the contract terms, the tier tables and the venues' rules, without
`risk.margin` or `risk.liquidation`; the night's own count has to be the same.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from risk import pipeline
from risk.config import load_config
from risk.sample import write_sample
from tests.makers import drop_options, keep_isolated

ROOT = Path(__file__).resolve().parents[1]
VENUES = ROOT / "configs/venues"
EVENING, MORNING = dt.date(2022, 11, 7), dt.date(2022, 11, 9)
MARKED = ("ADA", "BTC", "ETH", "LTC", "XRP")
N_POSITIONS = 100_000
#: Share of the excursion that lands as one jump, one scenario each.
GAPS = (0.0, 0.3, 1.0)
USD = {"USD", "USDT", "USDC"}


def two_days(bars):
    """Low, high and last of the 8th and 9th, as fractions of the close of the 7th."""
    day = bars.ts.dt.date
    reference = bars[day == EVENING].close.iloc[-1]
    after = bars[(day > EVENING) & (day <= MORNING)]
    return {
        "low": float(after.low.min() / reference - 1),
        "high": float(after.high.max() / reference - 1),
        "last": float(after.close.iloc[-1] / reference - 1),
    }


def crash(market_data):
    """The moves by asset, for every asset with a price on all three days."""
    daily = pd.read_parquet(market_data / "ohlcv_daily.parquet")
    daily = daily[daily.ts.dt.date.between(EVENING, MORNING)].sort_values("ts")
    moves = {asset: two_days(bars) for asset, bars in daily.groupby("asset") if len(bars) == 3}
    for asset in MARKED:
        moves[asset] = two_days(pd.read_parquet(market_data / f"perp_hourly_mark/{asset}.parquet"))
    # A price that never traded above the close still was at the close.
    return {
        a: m | {"low": min(m["low"], 0.0), "high": max(m["high"], 0.0)} for a, m in moves.items()
    }


@pytest.fixture(scope="module")
def night(market_data, tmp_path_factory):
    """The night of the 7th, run with the morning after as its only stresses."""
    folder = tmp_path_factory.mktemp("morning_after")
    moves = crash(market_data)
    snapshot = write_sample(
        folder,
        positions=N_POSITIONS,
        seed=11,
        as_of=EVENING,
        history=market_data / "ohlcv_daily.parquet",
        tiers=market_data / "leverage_tiers_binance.parquet",
        venue_rules=VENUES,
    )
    # The count below is of isolated perpetuals and futures.
    drop_options(snapshot)
    keep_isolated(snapshot)
    (folder / "stresses").mkdir()
    for number, gap in enumerate(GAPS):
        content = {
            "title": f"8 and 9 November 2022, gap {gap}",
            "kind": "historical",
            "source": "hourly marks and daily bars",
            "narrative": "The two days after the close of the book.",
            "start": EVENING + dt.timedelta(days=1),
            "end": MORNING,
            "price_kind": "mark",
            "shocks": moves,
            "others": "none",
            "gap": gap,
        }
        path = folder / "stresses" / f"{number}.yaml"
        path.write_text(yaml.safe_dump(content))
    config = {
        "snapshot": str(folder),
        "history": str(folder / "history"),
        "venues": str(VENUES),
        "horizon_days": 2,
        "seed": 1,
        "cells": ["asset", "side"],
        "scenarios": {
            "historical": {"windows": 50, "gap": 0.3},
            "stress": {"folder": str(folder / "stresses")},
        },
        "capital": str(ROOT / "configs/capital"),
        "execution": {"executor": "plain"},
        "out": str(folder / "runs"),
    }
    (folder / "night.yaml").write_text(yaml.safe_dump(config))
    run = pipeline.run(load_config(folder / "night.yaml"))
    return SimpleNamespace(run=run, snapshot=snapshot, moves=moves)


def rules_of(venue):
    """The venue's rules in force that evening, as they are written in its file."""
    rules = yaml.safe_load((VENUES / f"{venue}.yaml").read_text())["rules"]
    return max((rule for rule in rules if rule["from"] <= EVENING), key=lambda r: r["from"])


class Contract:
    """The isolated positions in one contract, and what its terms make of them at any prices.

    `size`, `collateral` and `tier` are what is left of each position after its cuts so far.
    """

    def __init__(self, terms, tiers, rules, positions):
        self.linear, self.rules, self.mark = terms.linear, rules, terms.mark_price
        tiers = tiers.sort_values("tier")
        self.floor, self.rate, self.amount = (
            tiers[name].to_numpy()
            for name in ("min_notional", "maintenance_margin_rate", "maintenance_amount")
        )
        self.name = positions.side.to_numpy()
        self.side = np.where(self.name == "long", 1.0, -1.0)
        self.entry = positions.entry_price.to_numpy()
        self.stop = positions.stop_loss_price.to_numpy()
        self.size = (positions.contracts * terms.contract_size).to_numpy()
        self.collateral = positions.position_margin.to_numpy().copy()
        self.tier = np.full(len(positions), len(self.floor))

    def value(self, price):
        """Settle currency."""
        return self.size * price if self.linear else self.size / price

    def gain(self, price):
        """Unrealised, settle currency."""
        if self.linear:
            return self.side * self.size * (price - self.entry)
        return self.side * self.size * (1 / self.entry - 1 / price)

    def equity(self, price):
        """Settle currency."""
        return self.collateral + self.gain(price)

    def tested(self, price):
        """The value that tier and maintenance are taken of."""
        return self.value(self.entry if self.rules["maintenance_basis"] == "entry" else price)

    def is_hit(self, price):
        """Whether the venue liquidates at this price: its tier looked up, its own test."""
        tested = self.tested(price)
        tier = np.searchsorted(self.floor, tested, side="right") - 1
        required = tested * self.rate[tier] - self.amount[tier]
        if self.rules["trigger_includes_closing_fee"]:
            charged = self.value(price)
            if self.rules["closing_fee_price"] == "bankruptcy":
                cushion = self.side * self.collateral / np.where(self.size > 0, self.size, 1.0)
                worth = self.entry - cushion if self.linear else 1 / self.entry + cushion
                charged = self.size * np.maximum(worth, 0.0)
            required = required + self.rules["closing_fee_rate"] * charged
        if self.rules["boundary"] == "below":
            return (self.size > 0) & (self.equity(price) < required)
        return (self.size > 0) & (self.equity(price) <= required)

    def trigger(self, good, bad):
        """Price of the first test that fails on the way from `good` to `bad`, by bisection."""
        for _ in range(120):
            middle = (good + bad) / 2
            hit = self.is_hit(middle)
            bad, good = np.where(hit, middle, bad), np.where(hit, good, middle)
        return bad

    def liquidate(self, price, who):
        """Close or cut the positions `who`, each at its price; notional and deficit in USD."""
        value, usd = self.value(price), 1.0 if self.linear else price
        room = self.equity(price) - self.rules["closing_fee_rate"] * value
        kept = np.zeros(len(value))
        if self.rules["partial"] == "tiers":
            tested, step = self.tested(price), self.rules.get("tiers_per_step", 1)
            # A tier holds its cap; rounding must not lift a position above the cap it was cut to.
            tier = np.minimum(self.tier, np.searchsorted(self.floor, tested) - 1)
            is_cut = (room >= 0) & (tier >= step)
            cap = self.floor[np.where(is_cut, tier - step + 1, 0)]
            kept = np.where(is_cut, cap / np.where(tested > 0, tested, 1.0), 0.0)
            self.tier = np.where(who & is_cut, tier - step, self.tier)
        closed = (1 - kept) * value
        fees = np.minimum(self.rules["liquidation_fee_rate"] * closed, np.maximum(room, 0.0))
        left = self.equity(price) - self.rules["closing_fee_rate"] * closed - fees
        self.size = np.where(who, kept * self.size, self.size)
        # What is left of the equity stands behind what is left of the position.
        self.collateral = np.where(who, left - self.gain(price), self.collateral)
        deficit = np.where(who & (room < 0), -room * usd, 0.0)
        return np.where(who, closed * usd, 0.0), deficit

    def replay(self, move, gap):
        """One row per position: what drift, one jump and rest at the extreme do to it."""
        extreme = np.where(self.side > 0, 1 + move["low"], 1 + move["high"]) * self.mark
        jump_from = extreme + gap * (self.mark - extreme)
        has_stop = np.isfinite(self.stop)
        stop = np.where(has_stop, self.stop, self.mark)
        is_open = ~(self.is_hit(self.mark) | (self.equity(self.mark) <= 0))
        # A stop on the winning side is a take-profit, which is not priced.
        is_open &= ~(has_stop & (self.side * (stop - self.mark) >= 0))
        stop_comes_first = has_stop & ~self.is_hit(stop)
        stopped = is_open & stop_comes_first & (self.side * (jump_from - stop) <= 0)
        self.size = np.where(is_open & ~stopped, self.size, 0.0)

        here = np.full(len(stop), self.mark)
        notional, deficit = np.zeros(len(stop)), np.zeros(len(stop))
        liquidated = np.zeros(len(stop), bool)
        while (hit := self.is_hit(jump_from)).any():
            here = np.where(
                hit, np.where(self.is_hit(here), here, self.trigger(here, jump_from)), here
            )
            closed, short = self.liquidate(here, hit)
            notional, deficit, liquidated = notional + closed, deficit + short, liquidated | hit
        while (hit := self.is_hit(extreme)).any():
            closed, short = self.liquidate(extreme, hit)
            notional, deficit, liquidated = notional + closed, deficit + short, liquidated | hit
        stopped |= is_open & ~liquidated & stop_comes_first & (self.side * (extreme - stop) <= 0)
        return pd.DataFrame(
            {
                "side": self.name,
                "is_open": is_open,
                "liquidations": liquidated,
                "lives_on": liquidated & (self.size > 0),
                "stops": stopped,
                "liquidated_notional": notional,
                "deficit": deficit,
            }
        )


@pytest.fixture(scope="module")
def count(night):
    """Brute-force totals by gap, asset and side."""
    positions, contracts, tiers = (
        pd.read_parquet(night.snapshot / f"{name}.parquet")
        for name in ("positions", "contracts", "tiers")
    )
    positions = positions[positions.margin_mode == "isolated"]
    key = ["venue", "symbol"]
    tables = dict(list(tiers.groupby(key)))
    terms = {(row.venue, row.symbol): row for row in contracts.itertuples()}
    parts = []
    for name, held in positions.groupby(key):
        contract = terms[name]
        if contract.type == "option" or name not in tables or not contract.mark_price > 0:
            continue
        assert contract.quote in USD
        rules = rules_of(contract.venue)
        for gap in GAPS:
            own = Contract(contract, tables[name], rules, held)
            rows = own.replay(night.moves[contract.base], gap)
            parts.append(rows.assign(gap=gap, asset=contract.base))
    return pd.concat(parts).groupby(["gap", "asset", "side"]).sum()


@pytest.mark.parametrize("gap", GAPS)
def test_the_crash_liquidates_what_a_count_in_contract_terms_says(night, count, gap):
    cube = night.run.cube["stress"].to_dataset().isel(scenario=GAPS.index(gap))
    assert cube.label.item().endswith(f"gap {gap}")
    expected = count.loc[gap]
    cells = pd.MultiIndex.from_arrays([cube.asset.values, cube.side.values])
    assert set(cells) == set(expected.index)
    expected = expected.reindex(cells)
    for name in ("liquidations", "stops"):
        np.testing.assert_array_equal(cube[name].values, expected[name], err_msg=name)
    for name in ("liquidated_notional", "deficit"):
        gross = expected.liquidated_notional.to_numpy()
        difference = np.abs(cube[name].values - expected[name])
        assert (difference <= 1e-9 * gross).all(), name


def test_the_morning_is_one_that_hurts_longs_and_spares_nobody_who_should_fall(night, count):
    assert night.moves["SOL"]["low"] < -0.58  # 29.62 to 12.37
    assert night.moves["BTC"]["low"] == pytest.approx(15600 / 20578 - 1, abs=0.01)
    drift = count.loc[0.0]
    long, short = drift.xs("long", level="side"), drift.xs("short", level="side")
    assert long.liquidations.sum() > 10 * short.liquidations.sum() > 0
    assert (long.liquidations > 0).all()
    assert 0 < long.lives_on.sum() < long.liquidations.sum()  # venues that cut in steps
    # The deeper the fall, the larger the share of the longs it closes.
    share = long.liquidations / long.is_open
    assert share["SOL"] == share.max()
    # A jump skips triggers, so it costs the venues more; a stop it skips becomes a liquidation.
    total = count.groupby("gap").sum()
    assert total.deficit.is_monotonic_increasing
    assert total.deficit[0.0] < 0.01 * total.deficit[1.0]
    assert total.liquidations.is_monotonic_increasing


def test_every_position_the_count_leaves_open_is_priced_by_the_night(night, count):
    by_status = {row["status"]: row for row in night.run.manifest["coverage"]}
    n_positions = pq.read_metadata(night.snapshot / "positions.parquet").num_rows
    assert by_status["in"]["n_positions"] == n_positions > 0.96 * N_POSITIONS
    assert by_status["priced"]["n_positions"] == count.loc[0.0].is_open.sum()
