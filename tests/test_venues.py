"""Venue rules: dated, sourced, and refused in one sentence when something is wrong."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from risk.errors import ConfigError
from risk.findings import insurance_funds
from risk.margin.venues import load_venue_rules
from tests.makers import AS_OF, RULES, write_venues

SHIPPED = Path(__file__).parents[1] / "configs" / "venues"
SHIPPED_VENUES = ("binance", "bitmex", "bybit", "deribit", "gate", "kucoin", "okx")


def write_rules(folder: Path, *rules: Any, venue: str = "binance", **top: Any) -> Path:
    content = {"venue": venue, "rules": list(rules), **top}
    (folder / "binance.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def test_shipped_rules_load_from_2019_on_and_each_names_a_source() -> None:
    assert sorted(path.stem for path in SHIPPED.glob("*.yaml")) == list(SHIPPED_VENUES)
    rules = load_venue_rules([SHIPPED], SHIPPED_VENUES, dt.date(2019, 1, 1))
    assert list(rules) == list(SHIPPED_VENUES)
    assert all("illustrative" in rule.source for rule in rules.values())
    assert all(rule.insurance_fund.balance > 0 for rule in rules.values())


@pytest.mark.parametrize("venue", ["bitmex", "bybit", "kucoin"])
def test_entry_margin_venues_charge_the_closing_fee_at_bankruptcy_and_keep_the_rest(
    venue: str,
) -> None:
    rule = load_venue_rules([SHIPPED], [venue], AS_OF)[venue]
    assert rule.maintenance_basis == "entry"
    assert rule.trigger_includes_closing_fee
    assert rule.closing_fee_price == "bankruptcy"
    assert rule.leftover == "fund"


def test_the_rule_in_force_is_the_latest_that_has_started(tmp_path: Path) -> None:
    later = {**RULES, "from": dt.date(2024, 1, 1), "closing_fee_rate": 0.0004}
    write_rules(tmp_path, later, RULES)
    for day, rate in [
        (dt.date(2019, 1, 1), 0.0005),
        (dt.date(2023, 12, 31), 0.0005),
        (dt.date(2024, 1, 1), 0.0004),
    ]:
        assert load_venue_rules([tmp_path], ["binance"], day)["binance"].closing_fee_rate == rate


def test_the_first_folder_that_has_the_venue_wins(tmp_path: Path) -> None:
    write_venues(tmp_path / "a", {"okx": {"closing_fee_rate": 0.001}})
    write_venues(tmp_path / "b", {"okx": {}, "gate": {"closing_fee_rate": 0.002}})
    folders = [tmp_path / "missing", tmp_path / "a", tmp_path / "b"]
    rules = load_venue_rules(folders, ["okx", "gate"], AS_OF)
    assert rules["okx"].closing_fee_rate == 0.001
    assert rules["gate"].closing_fee_rate == 0.002


def test_a_balance_without_a_sign_in_its_exponent_is_a_number(tmp_path: Path) -> None:
    write_rules(tmp_path, RULES)
    path = tmp_path / "binance.yaml"
    path.write_text(path.read_text().replace("1000000000.0", "1.0e9"))
    rules = load_venue_rules([tmp_path], ["binance"], AS_OF)
    assert rules["binance"].insurance_fund.balance == 1e9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partial": "halves"}, "partial: Input should be 'none' or 'tiers'"),
        ({"tiers_per_step": 2}, "tiers_per_step needs partial: tiers"),
        ({"partial": "tiers", "tiers_per_step": 0}, "tiers_per_step: .*greater than or equal"),
        ({"leftover": "nobody"}, "leftover: Input should be 'fund' or 'holder'"),
        ({"closing_fee_rate": -0.1}, "closing_fee_rate: .*greater than or equal to 0"),
        ({"closing_fee_rate": True}, "closing_fee_rate: .*must be a number"),
        ({"closing_fee_rate": float("nan")}, "closing_fee_rate: "),
        ({"liquidation_fee_rate": 1.25}, "liquidation_fee_rate: .*less than 1"),
        ({"trigger_includes_closing_fee": "no"}, "trigger_includes_closing_fee: .*boolean"),
        ({"insurance_fund": {"currency": "USDT", "balance": -1}}, "insurance_fund.balance: "),
        ({"insurance_fund": None}, "insurance_fund: "),
        ({"typo": 1}, "typo: Extra inputs are not permitted"),
        ({"source": ""}, "source: "),
        ({"from": "soon"}, "from: "),
        ({"from": dt.date(2030, 1, 1)}, "no rule is in force on 2025-06-29"),
        ({"valid_from": dt.date(2019, 1, 1)}, "write the start as 'from'"),
    ],
)
def test_a_faulty_rule_is_refused_with_its_file_and_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_rules(tmp_path, {**RULES, **changes})
    with pytest.raises(ConfigError, match=rf"binance\.yaml: .*{message}"):
        load_venue_rules([tmp_path], ["binance"], AS_OF)


def test_two_rules_of_one_day_are_refused(tmp_path: Path) -> None:
    write_rules(tmp_path, RULES, RULES)
    with pytest.raises(ConfigError, match="two rules start on 2019-01-01"):
        load_venue_rules([tmp_path], ["binance"], AS_OF)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs exactly the keys venue and rules"),
        ("- a\n- b\n", "needs exactly the keys venue and rules"),
        ("venue: okx\nrules: [{}]\n", "is about venue 'okx'"),
        ("venue: binance\nrules: []\n", "at least one rule"),
        ("venue: binance\nrules: [7]\n", "rule 1: must be a mapping"),
        ("venue: [binance\n", "cannot be read as YAML"),
        ("venue: !!python/object/apply:os.getcwd []\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_holds_no_rules_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "binance.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_venue_rules([tmp_path], ["binance"], AS_OF)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binance.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_venue_rules([tmp_path], ["binance"], AS_OF)


def test_a_venue_without_rules_names_the_file_to_add(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add mtgox\.yaml to a folder that is searched"):
        load_venue_rules([tmp_path], ["mtgox"], AS_OF)


@pytest.mark.parametrize("venue", ["../binance", "a/b", "", ".", "x" * 65, "\u202ebinance"])
def test_a_venue_name_cannot_walk_out_of_its_folder(tmp_path: Path, venue: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a file name"):
        load_venue_rules([tmp_path], [venue], AS_OF)


def test_a_fund_is_worth_dollars_and_one_in_an_unknown_currency_is_refused(tmp_path: Path) -> None:
    days = np.array(["2025-06-28", "2025-06-29"], "M8[D]")
    closes = xr.Dataset(
        {"close": (("day", "asset"), [[99_000.0], [100_000.0]])},
        coords={"day": days, "asset": ["BTC"]},
    )
    for currency, price in (("USDC", 1.0), ("BTC", 100_000.0)):
        fund = {"insurance_fund": {"currency": currency, "balance": 5.0}}
        write_venues(tmp_path / currency, {"okx": fund})
        rules = load_venue_rules([tmp_path / currency], ["okx"], AS_OF)
        assert insurance_funds(rules, closes)["balance_usd"].to_pylist() == [5.0 * price]
    write_venues(tmp_path, {"okx": {"insurance_fund": {"currency": "OLD", "balance": 5.0}}})
    rules = load_venue_rules([tmp_path], ["okx"], AS_OF)
    with pytest.raises(ConfigError, match=r"okx: insurance_fund is in OLD.*mend the currency"):
        insurance_funds(rules, closes)
