"""The measures reproduce published figures to their printed precision."""

from __future__ import annotations

import csv
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import yaml

import risk.measures as measures

FIGURES = yaml.safe_load((Path(__file__).parent / "reference" / "measures.yaml").read_text())
#: Thousands held in each index in the textbook's portfolio, and in its exercise.
HOLDINGS = {"hull": (4000, 3000, 1000, 2000), "hull_equal": (2500, 2500, 2500, 2500)}


@lru_cache
def columns(name: str) -> dict[str, np.ndarray]:
    folder = os.environ.get("BULKHEAD_MARKET_DATA")
    path = Path(folder or "") / "reference_series" / name
    if not folder or not path.exists():
        pytest.skip("BULKHEAD_MARKET_DATA is unset or holds no reference_series")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    numeric = [key for key in rows[0] if key.lower() not in ("date", "pldate1", "day")]
    return {key: np.array([float(row[key]) for row in rows]) for key in numeric}


def index_returns() -> np.ndarray:
    levels = np.stack(list(columns("hull_four_index_501.csv").values()), axis=1)
    return levels[1:] / levels[:-1] - 1


def series(name: str) -> dict:
    """Arguments a series stands for: a P&L, losses, a sample, or two moments."""
    if name.startswith("hull"):
        holding = np.array(HOLDINGS["hull_equal" if "equal" in name else "hull"], float)
        returns = index_returns()
        if name.endswith("_model"):
            covariance = np.cov(returns.T, ddof=0)
            return {"mean": 0.0, "sd": float(np.sqrt(holding @ covariance @ holding))}
        if "scaled" in name:
            returns = measures.volatility_scaled(returns, int(name[-2:]) / 100)
        return {"pnl": returns @ holding}
    if name == "ore_all_upside":
        return {"pnl": -columns("ore_hist_pnl_715.csv")["All"]}
    if name == "edhec_equal_weight":
        mean = np.stack(list(columns("edhec_152x13.csv").values())).mean(axis=0)
        return {"mean": mean.mean(), "sd": mean.std(ddof=1)}
    scipy_tests = pytest.importorskip("scipy.stats.tests.test_mstats_extras")
    return {"sample": scipy_tests.TestQuantiles.data}


@pytest.mark.parametrize(
    "figure", FIGURES, ids=lambda figure: f"{figure['call']}-{figure['expected']}"
)
def test_a_published_figure_is_reproduced_to_its_printed_precision(figure):
    arguments = dict(figure["with"])
    if "series" in figure:
        arguments |= series(figure["series"])
    if "age" in arguments:
        arguments["weights"] = measures.age_weights(arguments["pnl"].size, arguments.pop("age"))
    if figure["call"] == "fit_tail":
        arguments["losses"] = -arguments.pop("pnl")
    found = getattr(measures, figure["call"])(**arguments)
    if "method" in figure:
        found = getattr(found, figure["method"])(figure["at"])
    elif "field" in figure:
        found = getattr(found, figure["field"])
    elif "item" in figure:
        found = found[figure["item"]]
    assert found == pytest.approx(figure["expected"], rel=0, abs=figure["within"] * 1.0001)
    assert figure["source"]


def test_the_textbooks_99_percent_is_not_ours_and_the_rank_is_the_difference():
    pnl = series("hull")["pnl"]
    worst_first = np.sort(pnl)
    assert measures.value_at_risk(pnl, 0.99) == -worst_first[5]
    assert measures.value_at_risk(pnl, 0.9901) == -worst_first[4]
    assert measures.expected_shortfall(pnl, 0.99) == pytest.approx(-worst_first[:5].mean())


def test_shortfall_contributions_of_a_real_portfolio_add_up():
    returns = np.stack(list(columns("edhec_152x13.csv").values()), axis=1) / 13
    split = measures.expected_shortfall_contributions(returns, 0.95)
    assert split.shape == (13,)
    total = measures.expected_shortfall(returns.sum(axis=1), 0.95)
    assert split.sum() == pytest.approx(total, rel=1e-12)
