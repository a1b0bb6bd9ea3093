"""Capital rules against the paragraphs they come from, and the lines of the capital summary."""

import math
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from risk.capital import (
    ADEQUACY,
    adequacy,
    backtest_multiplier,
    cover,
    crypto_group_2a,
    crypto_group_2b,
    group_2_limit,
    internal_model_capital,
    liquidity_horizon_expected_shortfall,
    load_capital,
)
from risk.capital.basel import ADD_ONS, BASE_MULTIPLIER, GROUP_2A_CORRELATION, RISK_WEIGHT
from risk.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs" / "capital"
AMOUNTS = st.floats(0.0, 1e12, allow_nan=False)


@pytest.mark.parametrize(
    ("n", "multiplier"),
    [
        (0, 1.5),
        (4, 1.5),
        (5, 1.7),
        (6, 1.76),
        (7, 1.83),
        (8, 1.88),
        (9, 1.92),
        (10, 2.0),
        (99, 2.0),
    ],
)
def test_the_multiplier_is_that_of_mar32_9(n, multiplier):
    assert backtest_multiplier(n) == pytest.approx(multiplier, abs=1e-12)


def test_a_negative_count_of_exceedances_is_refused():
    with pytest.raises(ValueError, match="not below 0"):
        backtest_multiplier(-1)


def test_the_cascade_weighs_the_squares_one_one_two_two_six():
    """MAR33.4: horizons 10, 20, 40, 60, 120 over a base of 10 days."""
    shortfalls = {10: 5.0, 20: 4.0, 40: 3.0, 60: 2.0, 120: 1.0}
    expected = math.sqrt(25.0 + 16.0 + 2 * 9.0 + 2 * 4.0 + 6 * 1.0)
    assert liquidity_horizon_expected_shortfall(shortfalls) == pytest.approx(expected, rel=1e-14)


def test_an_absent_horizon_takes_the_next_longer_one_and_zero_beyond():
    absent = liquidity_horizon_expected_shortfall({10: 5.0, 40: 3.0})
    given_ = liquidity_horizon_expected_shortfall({10: 5.0, 20: 3.0, 40: 3.0, 60: 0.0, 120: 0.0})
    assert absent == given_ == pytest.approx(math.sqrt(25.0 + 9.0 + 18.0))
    assert liquidity_horizon_expected_shortfall({}) == 0.0


def test_a_horizon_outside_the_table_is_refused():
    with pytest.raises(ValueError, match="liquidity horizon 30"):
        liquidity_horizon_expected_shortfall({30: 1.0})


def test_only_the_modelled_average_is_multiplied():
    """MAR33.41: max(IMCC + SES; m IMCC_avg + SES_avg)."""
    assert internal_model_capital(100.0, 90.0, 20.0, 30.0, 1.5) == 165.0
    assert internal_model_capital(200.0, 90.0, 20.0, 30.0, 1.5) == 220.0


def test_equal_legs_of_group_2a_keep_thirty_five_percent_of_one_leg():
    """SCO60.76 and .77 with correlation 94 %: sqrt(2 - 1.88) = 0.3464."""
    assert crypto_group_2a(100.0, 100.0) == pytest.approx(1250.0 * math.sqrt(0.12), rel=1e-12)


def test_group_2a_coins_add_up_without_diversification():
    both = crypto_group_2a([100.0, 40.0], [20.0, 60.0])
    assert both == pytest.approx(crypto_group_2a(100.0, 20.0) + crypto_group_2a(40.0, 60.0))


def test_group_2b_takes_the_larger_leg_of_each_coin_at_1250_percent():
    assert crypto_group_2b([100.0, 10.0], [-40.0, -20.0]) == 12.5 * (100.0 + 20.0)


@given(AMOUNTS, AMOUNTS)
def test_netting_never_costs_more_than_none_and_never_less_than_the_difference(long, short):
    capital = crypto_group_2a(long, short) / RISK_WEIGHT
    slack = 1e-9 * (long + short)
    assert abs(long - short) - slack <= capital <= long + short + slack
    assert crypto_group_2b(long, short) <= 12.5 * (long + short)


@pytest.mark.parametrize(
    ("exposure", "tier1", "state", "excess"),
    [
        (9.0, 1000.0, "within", 0.0),
        (10.0, 1000.0, "within", 0.0),
        (0.07, 7.0, "within", 0.0),
        (15.0, 1000.0, "excess_to_2b", 5.0),
        (20.0, 1000.0, "excess_to_2b", 10.0),
        (0.14, 7.0, "excess_to_2b", 0.07),
        (20.01, 1000.0, "all_to_2b", 10.01),
    ],
)
def test_exactly_one_or_two_percent_of_tier_1_is_no_crossing(exposure, tier1, state, excess):
    limit = group_2_limit(exposure, tier1)
    assert limit.state == state
    assert limit.excess == pytest.approx(excess, abs=1e-12)
    assert limit.share == pytest.approx(exposure / tier1, rel=1e-15)


def test_a_limit_without_capital_is_refused():
    with pytest.raises(ValueError, match="must be above zero"):
        group_2_limit(1.0, 0.0)


def test_the_shipped_values_are_those_of_the_code():
    settings = load_capital(CONFIGS, date(2026, 11, 20))
    assert settings["base_multiplier"].value == BASE_MULTIPLIER
    assert [settings[f"add_on_{n}"].value for n in range(5, 11)] == list(ADD_ONS[5:])
    assert settings["group_2a_correlation"].value == GROUP_2A_CORRELATION
    assert settings["group_2b_risk_weight"].value == RISK_WEIGHT
    assert not settings["group_2a_correlation"].verified


def test_the_value_in_force_is_the_latest_not_after_the_date(tmp_path):
    entry = "{{name: own_funds, from: {day}, value: {value}, unit: USD, paragraph: p, source: s, "
    entry += "verified: true}}"
    days = [("2024-01-01", 1), ("2025-01-01", 2)]
    lines = "\n".join("  - " + entry.format(day=day, value=value) for day, value in days)
    (tmp_path / "a.yaml").write_text(f"title: t\nvalues:\n{lines}\n")
    assert load_capital(tmp_path, date(2024, 12, 31))["own_funds"].value == 1.0
    assert load_capital(tmp_path, date(2025, 1, 1))["own_funds"].value == 2.0
    with pytest.raises(ConfigError, match="no value `own_funds`"):
        load_capital(tmp_path, date(2023, 1, 1))["own_funds"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: t\nvalues: [{name: x}]\n", "values.0.from"),
        ("title: t\nvalues: []\nother: 1\n", "other"),
        ("title: [", "a.yaml"),
    ],
)
def test_a_broken_capital_file_is_one_clear_sentence(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_capital(tmp_path, date(2025, 1, 1))


def test_a_value_dated_twice_is_refused(tmp_path):
    value = (
        "{name: x, from: 2024-01-01, value: 1, unit: u, paragraph: p, source: s, verified: true}"
    )
    (tmp_path / "a.yaml").write_text(f"title: t\nvalues: [{value}, {value}]\n")
    with pytest.raises(ConfigError, match="given twice"):
        load_capital(tmp_path, date(2025, 1, 1))


@given(st.lists(st.floats(0.0, 1e9, allow_nan=False), max_size=30), st.integers(1, 5))
def test_cover_is_the_sum_of_the_largest_deficits(deficits, n):
    ordered = sorted(deficits, reverse=True)
    assert cover(deficits, n) == pytest.approx(math.fsum(ordered[:n]), abs=1e-6)
    assert cover(deficits, n + 1) >= cover(deficits, n)


def test_a_negative_deficit_is_refused():
    with pytest.raises(ValueError, match="not below zero"):
        cover({"a": -1.0}, 1)


def _lines(**changes):
    arguments = {
        "funds": pa.table({"venue": ["x", "y"], "balance_usd": [10.0, 100.0]}),
        "settings": load_capital(CONFIGS, date(2025, 6, 29)),
        "deficit_by_venue": xr.DataArray(
            [[30.0, 0.0], [5.0, 40.0]],
            dims=("scenario", "venue"),
            coords={"label": ("scenario", ["fall", "rise"]), "venue": ["x", "y"]},
        ),
        "account_deficits": pa.table(
            {
                "scenario": ["fall", "fall", "fall", "rise", "rise"],
                "account": ["a", "a", "b", "a", "c"],
                "deficit_usd": [12.0, 8.0, 10.0, 5.0, 18.0],
            }
        ),
        "deficit_expected_shortfall": 44.0,
        "deficit_basis": "Monte Carlo",
    }
    table = adequacy(**(arguments | changes))
    assert table.schema == ADEQUACY
    return {row["line"]: row for row in table.to_pylist()}


def test_a_fund_never_pays_for_another_venue():
    """The total funds (110) exceed every deficit, yet venue x is short by 20 in the fall."""
    lines = _lines()
    assert lines["worst_stress_deficit"]["value"] == 45.0
    assert lines["worst_uncovered_deficit"]["value"] == 20.0
    assert lines["worst_uncovered_deficit"]["basis"].endswith("fall")


def test_the_requirement_is_the_larger_of_stress_and_tail():
    assert _lines()["requirement"]["value"] == 45.0
    assert _lines(deficit_expected_shortfall=50.0)["requirement"]["value"] == 50.0


def test_resources_requirement_and_surplus_tie():
    lines = _lines()
    own = lines["own_funds"]["value"]
    assert lines["resources"]["value"] == 110.0 + own
    assert lines["surplus"]["value"] == lines["resources"]["value"] - 45.0
    assert lines["own_funds_after"]["value"] == own - 20.0


def test_cover_adds_up_an_account_over_its_venues():
    lines = _lines()
    assert lines["cover_1"]["value"] == 20.0
    assert lines["cover_2"]["value"] == 30.0
    assert "fall" in lines["cover_1"]["basis"]


def test_a_run_without_stresses_has_no_stress_lines_but_still_resources():
    none = xr.DataArray(
        np.empty((0, 2)),
        dims=("scenario", "venue"),
        coords={"label": ("scenario", np.empty(0, object)), "venue": ["x", "y"]},
    )
    empty = pa.table(
        {
            "scenario": pa.array([], pa.string()),
            "account": pa.array([], pa.string()),
            "deficit_usd": pa.array([], pa.float64()),
        }
    )
    lines = _lines(deficit_by_venue=none, account_deficits=empty, deficit_expected_shortfall=None)
    assert lines["worst_stress_deficit"]["value"] is None
    assert lines["cover_1"]["value"] is None
    assert lines["requirement"]["value"] is None
    assert lines["resources"]["value"] > 0.0


def test_a_fund_in_a_coin_without_a_price_counts_as_nothing_and_says_so():
    funds = pa.table({"venue": ["x", "y"], "balance_usd": [None, 100.0]})
    lines = _lines(funds=funds)
    assert lines["insurance_funds"]["value"] == 100.0
    assert "without a price" in lines["insurance_funds"]["basis"]
    assert lines["worst_uncovered_deficit"]["value"] == 30.0
