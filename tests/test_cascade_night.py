"""A night with the cascade on: same bytes however it is run, and both rounds side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from risk import pipeline
from risk.config import load_config
from risk.drivers import slice_drivers
from risk.errors import ConfigError
from risk.liquidation import account_losses, build_ladders, square_root_impact, walk
from risk.sample import write_sample
from risk.scenarios.stress import load_stresses
from tests.test_pipeline import assert_same, write_config

ROOT = Path(__file__).resolve().parents[1]

# A thin market, so that a small book moves it.
LIQUIDATION = {"impact": {"coefficient": 30.0}, "cascade": {"permanent": 0.3}}
SCENARIOS = {
    "historical": {"windows": 60, "gap": 0.3},
    "monte_carlo": {"paths": 300, "steps": 12, "block": 128},
    "stress": {"folder": str(ROOT / "configs/stresses")},
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample")
    write_sample(out, positions=400, seed=7, venue_rules=ROOT / "configs/venues")
    return out


def night(folder, sample, **changes):
    given = {"liquidation": LIQUIDATION, "scenarios": SCENARIOS, "limits": None} | changes
    return load_config(write_config(folder, sample, **given))


@pytest.fixture(scope="module")
def finished(sample, tmp_path_factory):
    return pipeline.run(night(tmp_path_factory.mktemp("plain"), sample))


def impact_of(run, cascade):
    table = pq.read_table(run.path / "impact.parquet")
    volume = table["volume_usd"].to_numpy()
    return square_root_impact(
        table["volatility"].to_numpy(),
        np.where(np.isnan(volume), 1.0, volume),
        coefficient=30.0,
        cascade=cascade,
        permanent=0.3,
    )


def test_dask_writes_the_same_bytes_with_the_cascade_on(sample, finished, tmp_path, monkeypatch):
    """Law 5, over executor, workers and order."""
    forward = pipeline.book.plan_blocks
    monkeypatch.setattr(pipeline.book, "plan_blocks", lambda *a: forward(*a)[::-1])
    execution = {"executor": "dask", "workers": 2}
    assert_same(finished, pipeline.run(night(tmp_path, sample, execution=execution)))


def test_the_report_holds_the_first_round_beside_the_cascade(finished):
    rows = pq.read_table(finished.path / "cascade.parquet").to_pandas()
    book = pq.read_table(finished.path / "book.parquet")
    stress = finished.drivers["stress"].to_dataset().load()
    assets = [str(name) for name in stress.asset.values]
    # The stored drivers hold prices: where implied volatility moves too, options come to more.
    # Nor do they hold the depth, which has a test of its own.
    library = load_stresses(ROOT / "configs/stresses")
    titles = {one.title for one in library if not one.volatility and not one.depth}
    still = [any(title in str(label) for title in titles) for label in stress.label.values]
    assert sum(still) > 20
    usual = ~np.isin(stress.label.values, [one.title for one in library if one.depth])
    closed = {}
    for column, cascade in (("first_round", False), ("cascade", True)):
        ladders = build_ladders(
            book, assets, ["asset"], max_cells=1000, impact=impact_of(finished, cascade)
        )
        expected = walk(ladders, stress).sum("cell")
        closed[column] = (expected.liquidations + expected.stops).values
        for name in ("pnl", "deficit", "liquidations", "liquidated_notional"):
            found = rows[(rows.scenario_set == "stress") & (rows.measure == name)]
            assert found.scenario.tolist() == [str(label) for label in stress.label.values]
            np.testing.assert_allclose(
                found[column][still], expected[name].values[still], rtol=1e-9, atol=1e-3
            )
    counts = rows[rows.measure == "liquidations"]
    # Not so of liquidations alone: what falls further may meet its stop before a gap.
    assert (closed["cascade"] >= closed["first_round"])[usual].all()
    assert counts.amplification.max() > 1.02
    facts = finished.facts.to_pandas().set_index("fact_id").value
    mean = counts[(counts.scenario_set == "monte_carlo")].iloc[0]
    assert facts["cascade.monte_carlo.set.liquidations.cascade"] == mean.cascade
    assert 'id="cascade"' in (finished.path / "report.html").read_text()


def test_positions_and_accounts_are_closed_in_the_same_cascade(finished):
    """The cube, the positions and the accounts are one night."""
    book = pq.read_table(finished.path / "book.parquet")
    stress = slice_drivers(finished.drivers["stress"].to_dataset().load(), 0, 5)
    losses = account_losses(book, stress, impact_of(finished, True)).to_pandas()
    deficit = losses.groupby("scenario").deficit_usd.sum()
    cube = finished.cube["stress"].deficit.sum("cell").values[:5]
    np.testing.assert_allclose(deficit, cube, rtol=1e-9, atol=1e-3)
    kept = pq.read_table(finished.path / "accounts.parquet").to_pandas()
    kept = kept[(kept.scenario_set == "stress") & (kept.scenario < 5)]
    np.testing.assert_allclose(kept.groupby("scenario").deficit_usd.sum(), cube, atol=1e-3)
    assert_those_in_trouble(kept, losses)
    positions = finished.positions.to_pandas()
    mine = positions[positions.scenario_set == "monte_carlo"]
    mean = (finished.cube["monte_carlo"].liquidations.sum("cell")).values.mean()
    assert mine.liquidation_probability.sum() == pytest.approx(mean, rel=1e-9)


def assert_those_in_trouble(kept, everyone):
    """Of every scenario, accounts with a deficit and the 25 that lose most, wherever they are."""
    amounts = ["pnl_usd", "deficit_usd", "liquidations"]
    expected = []
    for _, some in everyone.groupby("scenario"):
        by_account = some.groupby("account")[amounts].sum().reset_index()
        by_account["cost"] = by_account.deficit_usd - by_account.pnl_usd
        worst = by_account.sort_values(["cost", "account"], ascending=[False, True]).account[:25]
        broke = by_account.account[by_account.deficit_usd > 0]
        expected.append(some[some.account.isin({*worst, *broke})])
    expected = pd.concat(expected)
    names = ["scenario", "account", "venue"]
    assert kept[names].values.tolist() == expected[names].values.tolist()
    np.testing.assert_allclose(kept[amounts], expected[amounts], rtol=1e-9, atol=1e-6)
    assert len(kept) < len(everyone)


def test_the_waterfall_of_the_night_pays_the_deficits_of_its_cube(finished):
    """Every stress, and the worst scenarios of the sampled sets."""
    rows = pq.read_table(finished.path / "waterfall.parquet").to_pandas()
    for name, mine in rows.groupby("scenario_set"):
        whole = mine.groupby("scenario").deficit.sum()
        deficit = finished.cube[name].deficit.sum("cell").values
        np.testing.assert_allclose(whole, deficit[whole.index], rtol=1e-9, atol=1e-3)
        if name != "stress":
            assert len(whole) == min(20, (deficit > 0).sum())
            assert whole.min() >= np.sort(deficit)[-len(whole)] * (1 - 1e-9)
    paid = rows.paid_by_fund + rows.paid_by_winners + rows.unpaid
    np.testing.assert_allclose(rows.deficit, paid, atol=1e-3)
    assert 'id="waterfall"' in (finished.path / "report.html").read_text()


def test_a_fifth_of_the_depth_makes_closing_dearer_in_that_stress_alone(finished):
    """The cube, the accounts, the waterfall and the first round all close in the thin market."""
    library = {one.title: one for one in load_stresses(ROOT / "configs/stresses")}
    stress = finished.drivers["stress"].to_dataset().load()
    labels = [str(label) for label in stress.label.values]
    (thin,) = (title for title, one in library.items() if one.depth)
    (plain,) = (
        title for title, one in library.items()
        if one.shocks == library[thin].shocks and one.others == "worst"
        and one.gap == library[thin].gap and title != thin and not one.outage and not one.breaker
    )  # fmt: skip
    at, beside = labels.index(thin), labels.index(plain)
    cube = finished.cube["stress"].sum("cell").load()
    for name in ("pnl", "market_cost", "deficit"):
        assert cube[name].values[at] != cube[name].values[beside]
    # Not so of the deficit: who is closed earlier is not open when the gap comes.
    assert cube.pnl.values[at] < cube.pnl.values[beside]
    closed = (cube.liquidations + cube.stops).values
    assert closed[at] >= closed[beside]
    # A fifth of the volume and a fifth of the depth are the same to the square root law.
    book = pq.read_table(finished.path / "book.parquet")
    assets = [str(name) for name in stress.asset.values]
    walked = {}
    for cascade in (True, False):
        impact = impact_of(finished, cascade)
        fifth = dataclasses.replace(impact, volume_usd=impact.volume_usd / 5)
        ladders = build_ladders(book, assets, ["asset"], max_cells=1000, impact=fifth)
        walked[cascade] = walk(ladders, slice_drivers(stress, at, at + 1)).sum("cell")
    expected = walked[True]
    for name in ("pnl", "deficit", "liquidations", "market_cost"):
        np.testing.assert_allclose(cube[name].values[at], expected[name].values[0], rtol=1e-9)
    accounts = pq.read_table(finished.path / "accounts.parquet").to_pandas()
    mine = accounts[(accounts.scenario_set == "stress") & (accounts.scenario == at)]
    assert mine.deficit_usd.sum() == pytest.approx(cube.deficit.values[at], rel=1e-9)
    impact = impact_of(finished, True)
    fifth = dataclasses.replace(impact, volume_usd=impact.volume_usd / 5)
    everyone = account_losses(book, slice_drivers(stress, at, at + 1), fifth).to_pandas()
    assert everyone.pnl_usd.sum() == pytest.approx(cube.pnl.values[at], rel=1e-9)
    assert_those_in_trouble(mine.assign(scenario=0), everyone)
    order = accounts[accounts.scenario_set == "stress"][["scenario", "account", "venue"]]
    assert order.values.tolist() == sorted(order.values.tolist())
    paid = pq.read_table(finished.path / "waterfall.parquet").to_pandas()
    paid = paid[(paid.scenario_set == "stress") & (paid.scenario == at)]
    assert set(paid.label) == {thin}
    assert paid.deficit.sum() == pytest.approx(cube.deficit.values[at], rel=1e-9)
    rounds = pq.read_table(finished.path / "cascade.parquet").to_pandas()
    rounds = rounds[(rounds.scenario == thin) & (rounds.measure == "deficit")]
    assert rounds.cascade.item() == pytest.approx(cube.deficit.values[at], rel=1e-9)
    first = walked[False].deficit.values[0]
    assert rounds.first_round.item() == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize(
    ("impact", "words"),
    [
        ({"coefficient": 1.0, "assets": {"XYZ": 1.0}}, "XYZ has no price in the history"),
        ({"coefficient": 1.0, "volume": "contracts"}, None),
    ],
)
def test_volumes_come_from_the_history_or_the_contracts(sample, tmp_path, impact, words):
    config = night(tmp_path, sample, liquidation={"impact": impact})
    opened = pipeline.night.open_night(config)
    try:
        pipeline.book.load_book(opened)
        if words:
            with pytest.raises(ConfigError, match=words):
                pipeline.scenarios.prepare_scenarios(opened)
            return
        pipeline.scenarios.prepare_scenarios(opened)
        found = pipeline.impact.read_impact(opened)
    finally:
        pipeline.night.close(opened)
    listed = pq.read_table(opened.folder / "volumes.parquet").to_pandas()
    btc = listed.set_index("asset").volume_usd["BTC"]
    assert btc in found.volume_usd
    assert not found.joint.any()
