"""Option prices, implied quantities and greeks: an independent library, textbooks, real chains."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.contracts.options import (
    implied_forward,
    implied_volatility,
    option_greeks,
    option_value,
)
from risk.margin.options import expiry_forwards

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its wrappers are older than what Python asks of them
    import QuantLib as ql

DATA = os.environ.get("BULKHEAD_MARKET_DATA")
real = pytest.mark.skipif(not DATA, reason="BULKHEAD_MARKET_DATA names no folder of real data")

contracts = st.tuples(
    st.floats(0.5, 2.0),  # strike over forward
    st.floats(1 / 365, 2.0),  # years
    st.floats(0.1, 2.5),  # volatility
    st.booleans(),
)


@given(contracts)
@settings(max_examples=200, deadline=None)
def test_values_and_greeks_are_those_of_quantlib(contract) -> None:
    moneyness, years, volatility, is_call = contract
    index, forward = 100_000.0, 103_000.0
    strike = forward * moneyness
    kind = ql.Option.Call if is_call else ql.Option.Put
    peer = ql.BlackCalculator(ql.PlainVanillaPayoff(kind, strike), forward, volatility * years**0.5)
    value = option_value(forward, strike, years, volatility, is_call)
    assert float(value) == pytest.approx(peer.value(), abs=1e-9 * forward)
    coin = option_value(forward, strike, years, volatility, is_call, True)
    assert float(coin) * forward == pytest.approx(peer.value(), abs=1e-9 * forward)
    # A future has a spot of its own: without carry they are the same.
    ours = option_greeks(forward, forward, strike, years, volatility, is_call)
    assert float(ours.delta) == pytest.approx(peer.delta(forward), abs=1e-10)
    assert float(ours.gamma) == pytest.approx(peer.gamma(forward), rel=1e-9, abs=1e-18)
    assert float(ours.vega) == pytest.approx(peer.vega(years), rel=1e-9, abs=1e-9)
    moved = option_greeks(index, forward, strike, years, volatility, is_call)
    assert float(moved.delta) == pytest.approx(peer.delta(forward) * forward / index, abs=1e-10)


@given(contracts, st.booleans())
@settings(max_examples=100, deadline=None)
def test_greeks_are_slopes_of_the_dollar_value(contract, is_inverse) -> None:
    moneyness, years, volatility, is_call = contract
    index, basis = 3_000.0, 1.02
    strike = index * basis * moneyness

    def dollars(price, sigma):
        value = option_value(price * basis, strike, years, sigma, is_call, is_inverse)
        return float(value) * (price if is_inverse else 1.0)

    greeks = option_greeks(index, index * basis, strike, years, volatility, is_call, is_inverse)
    step = 1e-4 * index
    up, here, down = (dollars(index + k * step, volatility) for k in (1, 0, -1))
    scale = 1.0 + float(greeks.gamma) * index
    assert float(greeks.delta) == pytest.approx((up - down) / (2 * step), abs=1e-6 * scale)
    bend = (up - 2 * here + down) / step**2
    assert float(greeks.gamma) == pytest.approx(bend, rel=1e-3, abs=1e-4 * scale / index)
    tilt = (dollars(index, volatility + 1e-4) - dollars(index, volatility - 1e-4)) / 2e-4
    assert float(greeks.vega) == pytest.approx(tilt, rel=1e-4, abs=1e-4)


def test_published_values_come_out() -> None:
    # Hull, Options, Futures, and Other Derivatives: a put on crude futures at 20 struck at 20.
    put = option_value(20.0, 20.0, 4 / 12, 0.25, False) * np.exp(-0.09 * 4 / 12)
    assert round(float(put), 2) == 1.12
    # Haug, The Complete Guide to Option Pricing Formulas, Black-76: a call and a put on a future at
    # 19 struck at 19, nine months, 28 %, discounted at 10 %: 1.7011 each.
    for is_call in (True, False):
        both = option_value(19.0, 19.0, 0.75, 0.28, is_call) * np.exp(-0.10 * 0.75)
        assert round(float(both), 4) == 1.7011


@given(contracts, st.booleans())
@settings(max_examples=100, deadline=None)
def test_put_call_parity(contract, is_inverse) -> None:
    moneyness, years, volatility, _ = contract
    forward = 2.5
    strike = forward * moneyness
    call, put = (
        float(option_value(forward, strike, years, volatility, kind, is_inverse))
        for kind in (True, False)
    )
    unit = forward if is_inverse else 1.0
    assert call - put == pytest.approx((forward - strike) / unit, abs=1e-12 * (1 + forward / unit))


@given(contracts, st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_implied_is_what_was_put_in(contract, is_inverse) -> None:
    moneyness, years, volatility, is_call = contract
    forward = 70_000.0
    given_terms = (forward * moneyness, years)
    value = option_value(forward, *given_terms, volatility, is_call, is_inverse)
    vega = option_greeks(forward, forward, *given_terms, volatility, is_call).vega
    if vega > 1e-3 * forward * years**0.5:
        found = implied_volatility(value, forward, *given_terms, is_call, is_inverse)
        assert float(found) == pytest.approx(volatility, rel=1e-9)
        near = implied_forward(value, 60_000.0, *given_terms, volatility, is_call, is_inverse)
        assert float(near) == pytest.approx(forward, rel=1e-8)


def test_what_nothing_implies_is_nan() -> None:
    assert np.isnan(implied_volatility(5.0, 100.0, 90.0, 0.5, True))  # below intrinsic
    assert np.isnan(implied_volatility(100.0, 100.0, 90.0, 0.5, True))  # worth the forward itself
    assert np.isnan(implied_forward(1e6, 100.0, 90.0, 0.5, 0.5, True))


def test_an_option_on_its_last_day_is_worth_its_payoff() -> None:
    assert float(option_value(110.0, 100.0, 0.0, 0.5, True)) == 10.0
    assert float(option_value(110.0, 100.0, -1.0, 0.5, False)) == 0.0
    assert float(option_value(80.0, 100.0, 0.0, 0.5, False, True)) == 0.25


# -- real chains ---------------------------------------------------------------------------------


def chain(underlying: str, day: str):
    table = pq.read_table(Path(DATA or "") / "option_chains.parquet").to_pandas()
    kept = table[(table.underlying == underlying) & (table.snapshot_ts.dt.strftime("%F") == day)]
    years = (kept.expiry - kept.snapshot_ts).dt.total_seconds().to_numpy() / (365 * 86_400)
    rows = [
        {"venue": "deribit", "base": underlying, "settle": underlying, "linear": False, **row}
        for row in kept.to_dict("records")
    ]
    return kept, rows, years


@real
@pytest.mark.parametrize(("underlying", "tick"), [("BTC", 0.0001), ("ETH", 0.0001)])
def test_the_marks_of_a_real_chain_are_their_implied_volatilities(underlying, tick) -> None:
    kept, rows, years = chain(underlying, "2024-05-24")
    volatility = kept.mark_iv.to_numpy() / 100
    # The chain does not say its forwards: each expiry's own marks do.
    forward = expiry_forwards(rows, volatility, years)
    is_call = (kept.option_type == "call").to_numpy()
    model = option_value(forward, kept.strike.to_numpy(), years, volatility, is_call, True)
    error = np.abs(model - kept.mark_price.to_numpy())
    assert len(error) > 500
    assert np.median(error) < tick
    assert np.quantile(error, 0.99) < 10 * tick
    # The worst two are marks that were taken at another time: 0.19 % of the underlying.
    assert error.max() < 0.002


@real
def test_a_real_chain_with_its_forwards_implies_one_smile_for_calls_and_puts() -> None:
    kept, _, years = chain("ETH", "2024-01-08")
    forward, strike, mark = (
        kept[name].to_numpy() for name in ("underlying_price", "strike", "mark_price")
    )
    is_call = (kept.option_type == "call").to_numpy()
    volatility = implied_volatility(mark, forward, strike, years, is_call, True)
    vega = option_greeks(forward, forward, strike, years, volatility, is_call).vega / forward
    # Marks are rounded to 0.0001: where that is worth less than a tenth of a point.
    sharp = np.isfinite(volatility) & (0.00005 / vega < 0.001)
    pairs = {}
    keyed = zip(kept.expiry, strike, is_call, volatility, sharp, strict=True)
    for expiry, at, call, sigma, ok in keyed:
        if ok:
            pairs.setdefault((expiry, at), {})[call] = sigma
    both = [abs(pair[True] - pair[False]) for pair in pairs.values() if len(pair) == 2]
    assert len(both) > 100
    assert np.median(both) < 0.002
    assert max(both) < 0.02
