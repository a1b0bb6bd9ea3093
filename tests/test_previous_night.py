"""A second night knows the first: limits new or cured, value at risk explained, same bytes."""

from __future__ import annotations

import datetime as dt
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from risk import pipeline
from risk.config import load_config
from risk.errors import ConfigError
from risk.sample import write_sample
from risk.store import verify
from tests.test_pipeline import write_config

ROOT = Path(__file__).resolve().parents[1]
FIRST, SECOND = dt.date(2025, 6, 28), dt.date(2025, 6, 29)
HISTORICAL = {"historical": {"windows": 260, "gap": 0.3}}
LIMITS = """limits:
  - {name: Notional, measure: margin.gross_notional, scope: all, warning: 1, breach: 2, owner: a}
  - {name: Rows, measure: coverage.n_positions.in, scope: a, warning: 290, breach: 1e9, owner: b}
  - {name: Leverage, measure: leverage, scope: {venue: "*"}, warning: 0.1, breach: 0.2, owner: c}
"""


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Two snapshots of one sample, a few positions fewer in the first, and both nights' runs."""
    folder = tmp_path_factory.mktemp("nights")
    write_sample(folder, positions=300, seed=5, as_of=SECOND, venue_rules=ROOT / "configs/venues")
    first = folder / f"as_of={FIRST}"
    shutil.copytree(folder / f"as_of={SECOND}", first)
    book = pq.read_table(first / "positions.parquet")
    pq.write_table(book.slice(20), first / "positions.parquet")
    (folder / "limits.yaml").write_text(LIMITS)
    return folder, two_nights(folder, "runs")


def two_nights(folder, out):
    settings = {"limits": str(folder / "limits.yaml"), "out": str(folder / out)}
    settings |= {"previous": "latest", "explain": True, "scenarios": HISTORICAL}
    settings |= {"measures": {"attribution": True}}
    path = write_config(folder, folder, **settings)
    return [pipeline.run(load_config(path, as_of=day)) for day in (FIRST, SECOND)]


def test_the_first_night_has_nothing_to_compare_with(nights):
    _, (first, _) = nights
    assert "previous/run" not in first.manifest["inputs"]
    assert not (first.path / "previous.parquet").exists()
    assert "No night before" in (first.path / "report.html").read_text()


def test_limits_are_new_or_continuing_against_the_night_before(nights):
    _, (first, second) = nights
    assert second.manifest["inputs"]["previous/run"] == first.id
    values = dict(
        zip(second.facts["fact_id"].to_pylist(), second.facts["value"].to_pylist(), strict=True)
    )
    # The notional and the leverage of every venue, breached on both.
    assert values["limits.continuing"] == 2
    n_venues = sum(name.startswith("leverage.venue.") for name in values)
    assert values["limit.2.n_groups"] == values["limit.2.n_breach"] == n_venues > 1
    assert values["limits.new"] == 1  # the positions, above their warning since tonight
    assert values["limits.cured"] == 0
    assert values["limit.3.before"] == 280 < values["limit.3.used"] == 300
    page = (second.path / "report.html").read_text()
    assert "Since last night" in page
    assert "continuing: " in page  # a venue by its name


def test_the_change_of_value_at_risk_is_explained_on_the_report(nights):
    _, runs = nights
    second = runs[1]
    rows = pq.read_table(second.path / "explain.parquet", partitioning=None).to_pylist()
    change = rows[-1]["value_at_risk_usd"] - rows[0]["value_at_risk_usd"]
    assert math.fsum(row["effect_usd"] for row in rows) == pytest.approx(change, abs=1e-6)
    opened = next(row for row in rows if row["component"] == "positions opened")
    assert opened["effect_usd"] != 0.0
    published = [
        dict(zip(run.facts["fact_id"].to_pylist(), run.facts["value"].to_pylist(), strict=True))[
            "value_at_risk.historical.0.99.total.all"
        ]
        for run in runs
    ]
    ends = [rows[0]["value_at_risk_usd"], rows[-1]["value_at_risk_usd"]]
    assert ends == published  # what was printed is explained, not a second computation of it
    print("residual", rows[-1]["effect_usd"], "of", published)
    assert rows[-1]["is_within_limit"]
    assert "Why value at risk moved" in (second.path / "report.html").read_text()


def test_the_same_two_nights_elsewhere_are_the_same_bytes(nights):
    folder, before = nights
    again = two_nights(folder, "elsewhere")
    for old, new in zip(before, again, strict=True):
        verify(new)
        assert new.id == old.id
        assert new.manifest["outputs"] == old.manifest["outputs"]


def test_an_explanation_needs_a_night_before(nights):
    folder, _ = nights
    path = write_config(folder, folder, explain=True)
    with pytest.raises(ConfigError, match="explain: true needs previous: latest"):
        load_config(path)
