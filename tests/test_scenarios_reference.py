"""Weighted and rescaled historical simulation reproduce published figures to the printed digit."""

from __future__ import annotations

import csv
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

import risk.measures as measures
from risk.market.volatility import ewma_model, expected_variance, variance_path
from risk.scenarios.historical import age_weights, historical_drivers

FIGURES = yaml.safe_load((Path(__file__).parent / "reference" / "scenarios.yaml").read_text())
#: Thousand dollars held in each index in the textbook's portfolio.
HOLDINGS = {"DJIA": 4000.0, "FTSE": 3000.0, "CAC": 1000.0, "Nikkei": 2000.0}


@lru_cache
def four_indices() -> xr.Dataset:
    """Closes of the four-index example; it has no lows and highs, so they are the closes."""
    folder = os.environ.get("BULKHEAD_MARKET_DATA")
    path = Path(folder or "") / "reference_series" / "hull_four_index_501.csv"
    if not folder or not path.exists():
        pytest.skip("BULKHEAD_MARKET_DATA is unset or holds no reference_series")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    levels = np.array([[float(row[name]) for name in HOLDINGS] for row in rows])
    # The textbook counts trading days; so do we here, not calendar days.
    days = np.datetime64("2006-01-01", "D") + np.arange(len(levels))
    return xr.Dataset(
        {name: (("day", "asset"), levels) for name in ("low", "high", "close")},
        coords={"day": days.astype("M8[ns]"), "asset": np.array(list(HOLDINGS), object)},
    )


@lru_cache
def scenarios(method: str, decay: float | None) -> tuple[np.ndarray, np.ndarray]:
    """P&L in thousand dollars and weight of the 500 scenarios."""
    history = four_indices()
    betas = xr.DataArray(np.ones(4), dims="asset", coords={"asset": history["asset"]})
    settings: dict = {}
    if method == "age_weighted":
        settings["age_decay"] = decay
    elif method != "plain":
        volatility = ewma_model(history, list(HOLDINGS), decay=decay, returns="relative")
        settings = {"volatility": volatility, "returns": "relative"}
    drivers = historical_drivers(
        history,
        list(HOLDINGS),
        windows=500,
        horizon_days=1,
        gap=0.0,
        betas=betas.assign_attrs(market="equal_weight"),
        method=method,
        **settings,
    )
    pnl = (drivers["last"].values - 1) @ np.array(list(HOLDINGS.values()))
    return pnl, drivers["weight"].values


@pytest.mark.parametrize("place", range(6))
def test_the_textbooks_worst_losses_carry_its_weights(place):
    table = FIGURES["age_weighted_table"]
    number, loss, weight, cumulative = table["rows"][place]
    pnl, weights = scenarios("age_weighted", table["decay"])
    worst = np.argsort(pnl)
    assert worst[place] == number - 1
    assert -pnl[worst[place]] == pytest.approx(loss, abs=0.0005)
    assert weights[worst[place]] == pytest.approx(weight, abs=0.000005)
    assert weights[worst[: place + 1]].sum() == pytest.approx(cumulative, abs=0.0000051)
    assert table["source"]


@pytest.mark.parametrize(("ago", "weight"), FIGURES["hybrid_weights"]["rows"])
def test_a_published_age_weight_is_reproduced(ago, weight):
    table = FIGURES["hybrid_weights"]
    # The newest of the textbook's returns is one period old.
    weights = age_weights(np.arange(table["windows"]), table["decay"])
    assert weights[ago - 1] == pytest.approx(weight, abs=table["within"])
    assert table["source"]


def test_there_are_at_least_twenty_cited_figures():
    figures = [FIGURES[name] for name in ("tail_measures", "updates", "forecasts")]
    figures.append(FIGURES["hybrid_weights"]["rows"])
    figures.append(FIGURES["age_weighted_table"]["rows"])
    assert sum(map(len, figures)) >= 20


@pytest.mark.parametrize(
    "figure", FIGURES["tail_measures"], ids=lambda f: f"{f['method']}-{f['expected']}"
)
def test_a_published_tail_measure_is_reproduced(figure):
    pnl, weights = scenarios(figure["method"], figure.get("decay"))
    found = getattr(measures, figure["measure"])(pnl, figure["confidence"], weights=weights)
    assert found == pytest.approx(figure["expected"], abs=figure["within"] * 1.0001)
    assert figure["source"]


@pytest.mark.parametrize("figure", FIGURES["updates"], ids=lambda f: f["source"][:30])
def test_a_published_volatility_update_is_reproduced(figure):
    terms = (np.array([figure[name]]) for name in ("omega", "alpha", "beta"))
    start = np.array([figure["volatility"] ** 2])
    _, following = variance_path(np.array([[figure["return"]]]), *terms, start)
    assert_published(following[0], figure)


@pytest.mark.parametrize("figure", FIGURES["forecasts"], ids=lambda f: f["source"][:30])
def test_a_published_volatility_forecast_is_reproduced(figure):
    persistence = figure["persistence"]
    omega = figure["omega"]
    if "long_run" in figure:
        # The exercise gives the long-run level beside a rounded omega: the level is what it uses.
        omega = figure["long_run"] ** 2 * (1 - persistence)
    one = np.ones(1)
    found = expected_variance(
        figure["volatility"] ** 2 * one, omega * one, persistence * one, figure["days"]
    )
    assert_published(found[0], figure)


def assert_published(variance: float, figure: dict) -> None:
    expected, found = (
        (figure["variance"], variance) if "variance" in figure else (figure["next"], variance**0.5)
    )
    assert found == pytest.approx(expected, abs=figure["within"])
    assert figure["source"]
