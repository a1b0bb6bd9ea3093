"""The config is read whole or refused in one sentence that says how to mend it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from risk.config import Config, config_digest, load_config
from risk.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory to start from that has every folder the shipped configs name."""
    for folder in ("data/history", "configs/venues", "configs/stresses"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "configs/capital").mkdir()
    (tmp_path / "configs/limits.yaml").write_text("limits: []\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def demo():
    return yaml.safe_load((CONFIGS / "demo.yaml").read_text())


def write(values, name="night.yaml"):
    path = Path(name)
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def merge(values, changes):
    for key, change in changes.items():
        nested = isinstance(change, dict) and isinstance(values.get(key), dict)
        values[key] = merge(values[key], change) if nested else change
    return values


@pytest.mark.parametrize("name", ["demo", "nightly"])
def test_the_shipped_configs_are_valid(here, name):
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.scenarios.names == ("historical", "monte_carlo", "stress")
    assert config.snapshot == Path("data")


def test_the_shipped_configs_have_the_same_keys():
    def keys(values, at=""):
        if not isinstance(values, dict):
            return {at}
        return set().union(*(keys(value, f"{at}.{key}") for key, value in values.items()), {at})

    demo, nightly = (
        keys(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())) for name in ("demo", "nightly")
    )
    assert nightly - demo == {".schedule", ".schedule.cron", ".schedule.timezone"}
    assert demo <= nightly


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeed": 1}, ["seeed", "did you mean seed?"]),
        ({"scenarios": {"monte_carlo": {"path": 5}}}, ["monte_carlo.path ", "mean paths?"]),
        ({"execution": {"tls": {"cert_file": "a"}}}, ["execution.tls.cert_file", "mean cert?"]),
        ({"measures": {"quorum": 1}}, ["measures.quorum", "confidence, coverage_floor"]),
        ({"measures": {"confidence": [99]}}, ["measures.confidence.0 is 99", "less than 1"]),
        ({"measures": {"confidence": [0.99, 0.95]}}, ["confidence", "ascending"]),
        ({"measures": {"coverage_floor": "1e-3"}}, ["the text '1e-3'", "1.0e-3"]),
        ({"scenarios": {"monte_carlo": {"paths": True}}}, ["monte_carlo.paths is True", "integer"]),
        ({"scenarios": {"monte_carlo": {"model": "normal"}}}, ["model is 'normal'", "student_t"]),
        ({"scenarios": {"historical": {"gap": 1.5}}}, ["historical.gap is 1.5", "1"]),
        ({"scenarios": dict.fromkeys(["historical", "monte_carlo", "stress"])}, ["at least one"]),
        ({"scenarios": 3}, ["scenarios is 3"]),
        ({"as_of": "yesterday"}, ["as_of is 'yesterday'", "latest or a date"]),
        ({"cells": ["asset", "asset"]}, ["cells", "each once"]),
        ({"cells": ["account"]}, ["cells", "venue, settle, asset, kind, side, book"]),
        ({"liquidation": {"cascade": True}}, ["liquidation", "impact: {coefficient: 0.5}"]),
        ({"liquidation": {"impact": {"coefficient": -1}}}, ["impact.coefficient is -1"]),
        ({"liquidation": {"impact": {"hours": 2}}}, ["liquidation.impact", "write a coefficient"]),
        ({"liquidation": {"impact": {"coefficient": 1, "assets": {"BTC": -2}}}}, ["BTC is -2"]),
        ({"liquidation": {"cascade": {"share": 1}}}, ["liquidation.cascade.share", "permanent"]),
        (
            {"liquidation": {"impact": {"coefficient": 1, "slices": 2}, "cascade": True}},
            ["set slices: 1"],
        ),
        ({"execution": {"executor": "ray"}}, ["execution.executor is 'ray'", "'plain' or 'dask'"]),
        ({"execution": {"executor": "plain", "address": "tcp://x"}}, ["needs executor: dask"]),
        ({"seed": -1}, ["seed is -1"]),
        ({"snapshot": "data/nowhere"}, ["snapshot is 'data/nowhere'", "bulkhead sample"]),
        ({"scenarios": {"stress": {"folder": "nowhere"}}}, ["scenarios.stress.folder", "nowhere"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_file_key_and_fix(here, demo, changes, words):
    path = write(merge(demo, changes))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith("night.yaml")
    assert [word for word in words if word not in message] == []
    assert "\n" not in message
    assert caught.value.exit_status == 2


def test_a_missing_key_is_named(here, demo):
    del demo["seed"]
    with pytest.raises(ConfigError, match=r"night\.yaml: seed is missing"):
        load_config(write(demo))


def test_a_misspelt_key_is_named_before_the_one_it_leaves_missing(here, demo):
    demo["sed"] = demo.pop("seed")
    with pytest.raises(ConfigError, match=r"sed is not a known key; did you mean seed\? \(and 1"):
        load_config(write(demo))


def test_the_line_of_the_fault_is_named(here):
    text = (CONFIGS / "demo.yaml").read_text().replace("block: 4096", "block: 0")
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "block: 0" in row)
    with pytest.raises(ConfigError, match=rf"night\.yaml, line {line}: .*block is 0"):
        load_config(write(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("as_of: [latest", "line 1: .*; mend the YAML"),
        ("", "is not a list of keys"),
        ("- a\n- b\n", "is not a list of keys"),
        ("seed: 1\nout: runs\nseed: 2\n", "line 3: seed stands twice"),
        ("a: !!python/object:os.system x\n", "line 1"),
    ],
)
def test_what_is_no_config_is_refused(here, text, words):
    with pytest.raises(ConfigError, match=words):
        load_config(write(text))


def test_a_missing_file_is_refused():
    with pytest.raises(ConfigError, match="there is no such config"):
        load_config("nowhere.yaml")


def test_overrides_replace_the_values_of_the_file(here, demo):
    (here / "other").mkdir()
    config = load_config(
        write(demo),
        snapshot=Path("other"),
        as_of=dt.date(2022, 11, 7),
        execution__workers=7,
        execution__executor=None,
    )
    assert (config.snapshot, config.execution.workers) == (Path("other"), 7)
    assert config.as_of_date == dt.date(2022, 11, 7)
    assert config.execution.executor == "dask"


def test_a_config_cannot_be_changed(here):
    config = load_config(CONFIGS / "demo.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 2


def test_labels_are_put_in_their_canonical_order(here, demo):
    config = load_config(write(merge(demo, {"cells": ["side", "venue"]})))
    assert config.cells == ("venue", "side")


@pytest.mark.parametrize(
    "changes",
    [
        {"execution": {"executor": "plain", "workers": 8}},
        {"out": "elsewhere", "snapshot": "elsewhere", "history": "elsewhere"},
        {"scenarios": {"stress": {"folder": "elsewhere"}}},
        {"schedule": {"cron": "0 3 * * *"}},
        {"schedule": {"backtest": {"cron": "0 3 * * 0", "nights": 100}}},
        {"cells": ["book", "side", "kind", "asset", "settle", "venue"]},
    ],
)
def test_paths_execution_and_schedule_do_not_change_the_digest(here, demo, changes):
    (here / "elsewhere").mkdir()
    before = config_digest(load_config(write(demo)))
    assert config_digest(load_config(write(merge(demo, changes)))) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"horizon_days": 2},
        {"cells": ["venue"]},
        {"scenarios": {"stress": None}},
        {"scenarios": {"historical": {"gap": 0.4}}},
        {"scenarios": {"monte_carlo": {"block": 1024}}},
        {"measures": {"coverage_floor": 0.5}},
        {"margin": {"target_deficit_probability": 0.02}},
    ],
)
def test_every_key_that_changes_a_number_changes_the_digest(here, demo, changes):
    before = config_digest(load_config(write(demo)))
    assert config_digest(load_config(write(merge(demo, changes)))) != before


def test_every_default_is_a_value_the_config_accepts(here):
    config = load_config(CONFIGS / "demo.yaml")
    assert Config.model_validate(config.model_dump(mode="python")) == config
