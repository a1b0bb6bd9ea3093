"""A finished backtest as a few small tables of text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from risk.store import Run

#: Exceedances listed, the latest last.
N_LISTED = 10


class TextTable(NamedTuple):
    """A title, the columns, the rows, and how many of the columns are text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_text: int


def text_tables(run: Run) -> tuple[TextTable, ...]:
    """Tests by set and level, the exceedances with their cause, and the liquidation counts."""
    days, tests, counts = (
        pq.read_table(run.path / f"{name}.parquet", partitioning=None)
        for name in ("days", "tests", "calibration")
    )
    return _tests(days, tests), _exceedances(days), _counts(counts, tests)


def _tests(days: pa.Table, tests: pa.Table) -> TextTable:
    found: dict[tuple[str, float], dict[str, Any]] = {}
    for row in tests.to_pylist():
        if row["confidence"] is not None:
            found.setdefault((row["scenario_set"], row["confidence"]), {})[row["test"]] = row
    rows = [
        [
            name.replace("_", " "),
            f"{level:.4g}",
            f"{of['exceedances']['n_days']:,}",
            f"{of['exceedances']['statistic']:,.0f}",
            f"{of['expected_exceedances']['statistic']:,.1f}",
            of["traffic_light"]["zone"],
            _number(of["kupiec"], "p_value"),
            _number(of["christoffersen.conditional_coverage"], "exact_p_value"),
            _number(of["dynamic_quantile"], "p_value"),
            _number(of["du_escanciano.unconditional"], "p_value"),
            _number(of["acerbi_szekely.z2"], "statistic"),
        ]
        for (name, level), of in found.items()
    ]
    nights = sorted(set(days["night"].to_pylist()))
    columns = ["scenario set", "level", "nights", "exceed", "expected", "zone", "Kupiec p",
               "Christoffersen p", "DQ p", "Du-Escanciano p", "Z2"]  # fmt: skip
    title = f"Backtest of the nights {nights[0]} to {nights[-1]}, one day ahead"
    return TextTable(title, columns, rows, 1)


def _exceedances(days: pa.Table) -> TextTable:
    """The days beyond the highest level of the first scenario set that was forecast with."""
    rows = days.to_pylist()
    first = rows[0]["scenario_set"]
    top = max(row["confidence"] for row in rows)
    hits = [
        row
        for row in rows
        if row["is_exceedance"] and (row["scenario_set"], row["confidence"]) == (first, top)
    ]
    listed = [
        [
            str(row["day"]),
            "n/a" if row["pnl_usd"] is None else f"{-row['pnl_usd']:,.0f}",
            "n/a" if row["value_at_risk_usd"] is None else f"{row['value_at_risk_usd']:,.0f}",
            row["cause"] or "",
        ]
        for row in hits[-N_LISTED:]
    ]
    title = f"{len(hits)} exceedances of the {first.replace('_', ' ')} VaR at {top:.4g}"
    return TextTable(title, ["day", "loss, USD", "VaR, USD", "cause"], listed, 4)


def _counts(calibration: pa.Table, tests: pa.Table) -> TextTable:
    rows = [
        [
            row["scenario_set"].replace("_", " "),
            f"{row['lower']:g} to {row['upper']:g}",
            f"{row['n_position_days']:,}",
            f"{row['expected']:,.1f}",
            f"{row['realised']:,}",
            "n/a" if row["z_score"] is None else f"{row['z_score']:.2f}",
        ]
        for row in calibration.to_pylist()
    ]
    whole = {
        (row["scenario_set"], row["test"]): row
        for row in tests.to_pylist()
        if row["confidence"] is None
    }
    for name in dict.fromkeys(name for name, _ in whole):
        expected, realised, mean = (
            whole[name, f"liquidations.{part}"] for part in ("expected", "realised", "mean")
        )
        rows.append(
            [
                name.replace("_", " "), "all", "",
                f"{expected['statistic']:,.1f}", f"{realised['statistic']:,.0f}",
                _number(mean, "statistic"),
            ]
        )  # fmt: skip
    columns = ["scenario set", "forecast probability", "position-days", "expected", "realised", "z"]
    return TextTable("Liquidations, predicted and realised", columns, rows, 2)


def _number(row: dict[str, Any], field: str) -> str:
    return "n/a" if row[field] is None else f"{row[field]:.3f}"
