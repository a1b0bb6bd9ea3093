"""Payoffs of linear and inverse contracts against their contract terms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.contracts.payoffs import (
    coordinate,
    heading,
    notional,
    notional_usd,
    unrealized_pnl,
    value_line_usd,
)

prices = st.floats(1e-4, 1e6)
sizes = st.floats(1e-4, 1e8)
directions = st.sampled_from([1.0, -1.0])


def test_a_linear_long_of_two_coins_bought_at_50_gains_20_at_60() -> None:
    assert unrealized_pnl(1, 2.0, 50.0, 60.0, False) == pytest.approx(20.0, rel=1e-15)
    assert notional(2.0, 60.0, False) == pytest.approx(120.0, rel=1e-15)
    assert notional_usd(2.0, 60.0, False) == pytest.approx(120.0, rel=1e-15)


def test_an_inverse_long_of_300_dollars_bought_at_50_gains_one_coin_at_60() -> None:
    assert unrealized_pnl(1, 300.0, 50.0, 60.0, True) == pytest.approx(1.0, rel=1e-14)
    assert notional(300.0, 60.0, True) == pytest.approx(5.0, rel=1e-15)
    assert notional_usd(300.0, 60.0, True) == 300.0


def test_arrays_may_mix_linear_and_inverse_contracts() -> None:
    is_inverse = np.array([False, True])
    gains = unrealized_pnl([1, -1], [2.0, 300.0], [50.0, 50.0], [60.0, 60.0], is_inverse)
    assert gains == pytest.approx([20.0, -1.0], rel=1e-14)


@given(directions, sizes, prices, prices, st.booleans())
def test_what_a_long_gains_the_short_loses(direction, size, entry, price, is_inverse) -> None:
    one = unrealized_pnl(direction, size, entry, price, is_inverse)
    assert one == -unrealized_pnl(-direction, size, entry, price, is_inverse)
    assert unrealized_pnl(direction, size, entry, entry, is_inverse) == 0


@given(directions, sizes, prices, prices)
def test_an_inverse_long_is_a_linear_short_in_one_over_the_price(
    direction, size, entry, price
) -> None:
    inverse = unrealized_pnl(direction, size, entry, price, True)
    linear = unrealized_pnl(-direction, size, 1 / entry, 1 / price, False)
    assert inverse == linear
    assert notional(size, price, True) == notional(size, 1 / price, False)


@given(directions, prices, st.booleans())
def test_a_gain_follows_the_heading_of_the_position(direction, price, is_inverse) -> None:
    up = unrealized_pnl(direction, 1.0, price, price * 1.5, is_inverse)
    assert np.sign(up) == direction
    steps = coordinate(price * 1.5, is_inverse) - coordinate(price, is_inverse)
    assert np.sign(up) == heading(direction, is_inverse) * np.sign(steps)


@given(
    directions,
    sizes,
    prices,
    prices,
    st.floats(0, 2),
    st.floats(0.05, 5),
    st.booleans(),
)
def test_the_value_in_dollars_is_a_line_in_the_price_ratio(
    direction, size, entry, mark, margin_share, ratio, is_inverse
) -> None:
    margin = margin_share * notional(size, entry, is_inverse)
    equity, exposure = value_line_usd(direction, size, entry, margin, mark, is_inverse)
    price = ratio * mark
    settle_value = margin + unrealized_pnl(direction, size, entry, price, is_inverse)
    in_dollars = settle_value * (price if is_inverse else 1.0)
    # Rounding is of the parts that cancel, not of what is left.
    gross = size * max(price, mark, entry) if not is_inverse else size * (1 + price / entry) * 3
    gross += margin * (price if is_inverse else 1.0) + abs(equity)
    assert equity + exposure * (ratio - 1) == pytest.approx(in_dollars, abs=1e-13 * gross)
