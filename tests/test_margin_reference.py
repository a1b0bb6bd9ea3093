"""Figures that exchanges have published come out of the margin table as printed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from risk.margin.book import build_book, margin_table
from risk.margin.venues import VenueRules
from risk.schema import CONTRACTS, POSITIONS, TIERS
from tests.makers import AS_OF, RULES, contract, position

CASES = yaml.safe_load((Path(__file__).parent / "reference" / "margins.yaml").read_text("utf-8"))
PRINTED = [
    pytest.param(case, column, printed, id=f"{case['name']}: {column}")
    for case in CASES
    if not case.get("known_wrong")
    for column, printed in case["expect"].items()
]
WRONG = [pytest.param(case, id=case["name"]) for case in CASES if case.get("known_wrong")]


def margins(case: dict[str, Any]) -> dict[str, Any]:
    """The margin table's row for one published example."""
    symbol = "BTC/USD:BTC" if case.get("inverse") else "BTC/USDT:USDT"
    entry = case["position"]["entry_price"]
    terms = contract(
        symbol,
        contract_size=float(case.get("contract_size", 1)),
        mark_price=float(case.get("mark_price", entry)),
    )
    floors = [floor for floor, _, _ in case["tiers"]]
    tiers = [
        {
            "venue": "binance",
            "symbol": symbol,
            "tier": n,
            "min_notional": floor,
            "max_notional": cap,
            "maintenance_margin_rate": rate,
            "maintenance_amount": amount,
            "max_leverage": 100.0,
        }
        for n, ((floor, rate, amount), cap) in enumerate(
            zip(case["tiers"], [*floors[1:], math.inf], strict=True), 1
        )
    ]
    rules = VenueRules.model_validate({**RULES, "venue": "binance", **case["rules"]})
    book = build_book(
        pa.Table.from_pylist([position(symbol=symbol, **case["position"])], schema=POSITIONS),
        pa.Table.from_pylist([terms], schema=CONTRACTS),
        pa.Table.from_pylist(tiers, schema=TIERS),
        {"binance": rules},
        as_of=AS_OF,
    )
    (row,) = margin_table(book).to_pylist()
    if row["margin_ratio"] is not None:
        row["requirement"] = row["margin_ratio"] * row["equity"]
    return row


def as_printed(value: float, printed: str, case: dict[str, Any]) -> str:
    """Rounded the way the source says it rounds; to the nearest unless it says otherwise."""
    n_decimals = len(printed.partition(".")[2])
    if case.get("round_up_to"):
        value = math.ceil(value / case["round_up_to"]) * case["round_up_to"]
    if case.get("cut_off"):
        value = math.trunc(value * 10**n_decimals) / 10**n_decimals
    return f"{value:.{n_decimals}f}"


@pytest.mark.parametrize(("case", "column", "printed"), PRINTED)
def test_a_published_figure_is_reproduced_to_its_last_printed_digit(
    case: dict[str, Any], column: str, printed: str
) -> None:
    value = margins(case)[column]
    if isinstance(value, float):
        value = as_printed(value, printed, case)
    assert value == printed


@pytest.mark.parametrize("case", WRONG)
def test_a_figure_left_out_as_wrong_really_disagrees(case: dict[str, Any]) -> None:
    ((column, printed),) = case["expect"].items()
    assert as_printed(margins(case)[column], printed, case) != printed


def test_there_are_at_least_thirty_published_numbers_and_each_has_an_address() -> None:
    assert sum(column != "status" for _, column, _ in (p.values for p in PRINTED)) >= 30
    assert all(case["source"].startswith("https://") for case in CASES)
