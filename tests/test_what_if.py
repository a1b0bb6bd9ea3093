"""What if: changes of the book against the same change by hand, and paired differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from risk import commands
from risk.errors import ConfigError
from risk.measures.paired import paired_mean, paired_shortfall
from risk.sample import write_sample
from risk.snapshot import load_snapshot
from risk.snapshot.what_if import apply_what_if, load_what_if
from tests.test_pipeline import write_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, positions=300, seed=3, venue_rules=ROOT / "configs/venues")
    return load_snapshot(folder, venue_folders=[ROOT / "configs/venues"])


def change(tmp_path, snapshot, *changes):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"title": "a branch", "changes": list(changes)}))
    return apply_what_if(snapshot, load_what_if(path), path)


def rows(snapshot):
    return {row["position_id"]: row for row in snapshot.positions.to_pylist()}


def test_a_top_up_adds_to_those_that_fit_and_to_nobody_else(tmp_path, snapshot):
    before = rows(snapshot)
    venue = snapshot.positions["venue"][0].as_py()
    where = {"venue": venue, "side": "long"}
    branch, done = change(tmp_path, snapshot, {"top_up": {"where": where, "amount": 7.5}})
    fits = {k for k, row in before.items() if (row["venue"], row["side"]) == (venue, "long")}
    assert done[0].n_changed == len(fits) > 0
    for name, row in rows(branch).items():
        extra = 7.5 if name in fits else 0.0
        assert row == before[name] | {"position_margin": before[name]["position_margin"] + extra}
    assert rows(snapshot) == before  # the base is untouched


def test_a_share_and_a_leverage_are_of_the_entry_value(tmp_path, snapshot):
    terms = {(c["venue"], c["symbol"]): c for c in snapshot.contracts.to_pylist()}
    name = snapshot.positions["position_id"][0].as_py()
    row = rows(snapshot)[name]
    contract = terms[row["venue"], row["symbol"]]
    size = row["contracts"] * contract["contract_size"]
    value = size * row["entry_price"] if contract["linear"] else size / row["entry_price"]
    where = {"position_id": name}
    branch, _ = change(tmp_path, snapshot, {"re_lever": {"where": where, "leverage": 4.0}})
    assert rows(branch)[name]["position_margin"] == pytest.approx(value / 4)
    assert rows(branch)[name]["leverage"] == 4.0
    share = {"top_up": {"where": where, "notional_share": 0.1}}
    branch, _ = change(tmp_path, snapshot, {"re_lever": {"where": where, "leverage": 4.0}}, share)
    assert rows(branch)[name]["position_margin"] == pytest.approx(value * 0.35)


def test_added_and_removed_rows_are_counted_as_having_come_in(tmp_path, snapshot):
    first = snapshot.positions.to_pylist()[0]
    new = {k: v for k, v in first.items() if v is not None} | {"position_id": "new"}
    new["margin_mode"] = "isolated"
    branch, done = change(
        tmp_path, snapshot,
        {"remove": {"where": {"position_id": [first["position_id"]]}}},
        {"add": {"positions": [new, new | {"position_id": "newer"}]}},
    )  # fmt: skip
    assert [one.n_changed for one in done] == [1, 2]
    assert branch.n_rows == snapshot.n_rows + 1
    ids = branch.positions["position_id"].to_pylist()
    assert ids == sorted(ids)
    assert {"new", "newer"} <= set(ids)
    assert first["position_id"] not in ids


def test_changed_tiers_still_meet_at_every_bracket_edge(tmp_path, snapshot):
    branch, done = change(tmp_path, snapshot, {"tiers": {"rate_times": 1.5, "rate_plus": 0.001}})
    before = snapshot.tiers.to_pylist()
    assert done[0].n_changed == len({(t["venue"], t["symbol"]) for t in before})
    previous = None
    for old, new in zip(before, branch.tiers.to_pylist(), strict=True):
        rate = new["maintenance_margin_rate"]
        assert rate == pytest.approx(1.5 * old["maintenance_margin_rate"] + 0.001)
        if new["tier"] > 1:
            edge = new["min_notional"]
            below = edge * previous["maintenance_margin_rate"] - previous["maintenance_amount"]
            assert edge * rate - new["maintenance_amount"] == pytest.approx(below, rel=1e-9)
        previous = new


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("changes: []", "title is missing"),
        ("title: x\nchanges: []", "changes is"),
        ("title: x\nchanges: [{remov: {}}]", "changes.0.remov is not a known key"),
        ("title: x\nchanges: [{remove: {where: {}}}]", "name what is meant"),
        (
            "title: x\nchanges: [{top_up: {where: {asset: BTC}, amount: -1}}]",
            "changes.0.top_up.amount is -1",
        ),
        (
            "title: x\nchanges: [{top_up: {where: {asset: BTC}}}]",
            "either amount or notional_share",
        ),
        ("title: [", "is not YAML"),
        ("3", "holds no keys"),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(tmp_path, content, words):
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"x\.yaml: ") as caught:
        load_what_if(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        ({"remove": {"where": {"asset": "NOPE"}}}, "fits no position"),
        ({"remove": {"where": {"position_id": "nope"}}}, "holds no position 'nope'"),
        ({"tiers": {"where": {"symbol": "NOPE"}}}, "fits no tier table"),
        ({"tiers": {"rate_plus": 0.9}}, "keep it from 0 to below 1"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(tmp_path, snapshot, one, words):
    with pytest.raises(ConfigError, match=r"x\.yaml: changes\.0\.") as caught:
        change(tmp_path, snapshot, one)
    assert words in str(caught.value)


def test_an_id_that_is_taken_and_a_contract_that_is_not_listed_are_refused(tmp_path, snapshot):
    first = {k: v for k, v in snapshot.positions.to_pylist()[0].items() if v is not None}
    first["margin_mode"] = "isolated"
    with pytest.raises(ConfigError, match="already there"):
        change(tmp_path, snapshot, {"add": {"positions": [first]}})
    other = first | {"position_id": "new", "symbol": "NO/USDT:USDT"}
    with pytest.raises(ConfigError, match="lists no contract NO/USDT:USDT"):
        change(tmp_path, snapshot, {"add": {"positions": [other]}})


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_book_against_itself_differs_by_nothing_without_error(seed):
    pnl = np.random.default_rng(seed).standard_t(4, 200)
    assert paired_mean(pnl, pnl)[2:] == (0.0, 0.0)
    assert paired_shortfall(pnl, pnl, 0.95)[2:] == (0.0, 0.0)
    # A gain for sure moves the shortfall by itself, without error.
    shifted = paired_shortfall(pnl, pnl + 1.0, 0.95)
    assert shifted.difference == pytest.approx(-1.0)
    assert shifted.standard_error == pytest.approx(0.0, abs=1e-12)


def test_the_paired_error_is_the_spread_over_many_samples_and_far_below_the_unpaired_one():
    rng = np.random.default_rng(1)
    found, said = [], []
    for _ in range(400):
        x = rng.standard_t(5, 2000)
        one = paired_shortfall(x, 1.05 * x + 0.1 * rng.standard_normal(2000), 0.975)
        found.append((one.difference, one.base, one.branch))
        said.append(one.standard_error)
    spread = np.std(found, axis=0, ddof=1)
    # 400 samples tell a standard deviation to 3.5 %; three of these.
    assert np.mean(said) == pytest.approx(spread[0], rel=0.15)
    assert spread[0] < 0.25 * np.hypot(spread[1], spread[2])


def test_a_branch_lies_beside_its_base_and_leaves_it_as_it_was(tmp_path, capsys):
    from risk.cli import run_command

    write_sample(tmp_path, positions=300, seed=3, venue_rules=ROOT / "configs/venues")
    config = write_config(tmp_path, tmp_path)
    base = commands.run(config)
    listed = {path: path.read_bytes() for path in sorted(base.path.rglob("*")) if path.is_file()}
    file = tmp_path / "more.yaml"
    file.write_text(
        "title: Twice the collateral\nchanges:\n"
        "  - top_up: {where: {side: [long, short]}, notional_share: 0.5}\n"
    )
    assert run_command(["run", str(config), "--what-if", str(file)]) in (0, 3)
    assert "Twice the collateral" in capsys.readouterr().out
    for path, content in listed.items():
        assert path.read_bytes() == content
    branch = commands.run(config, what_if=file)
    assert branch.id != base.id
    assert "what_if" in branch.path.parts
    table = pq.read_table(branch.path / "what_if.parquet").to_pylist()
    for row in table:
        if row["measure"] == "liquidations" or row["measure"] == "liquidations_mean":
            assert row["difference"] <= 0
    one = next(row for row in table if row["measure"] == "pnl_mean")
    name = one["scenario_set"]
    pnl = [run.cube[name].pnl.sum("cell").values for run in (base, branch)]
    weight = base.cube[name].weight.values
    assert one["difference"] == pytest.approx(weight @ (pnl[1] - pnl[0]))
    assert 'id="what_if"' in (branch.path / "report.html").read_text()
