"""A finished backtest as a few small tables of text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from risk.store import Run

#: Exceedances listed, the latest last.
N_LISTED = 10

#: Days listed on which daily bars and marks liquidate other positions.
N_WORST = 5


class TextTable(NamedTuple):
    """A title, the columns, the rows, and how many of the columns are text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_text: int


def text_tables(run: Run) -> tuple[TextTable, ...]:
    """Tests, the rest of them, exceedances with their cause, attribution and liquidations."""
    days, tests, counts, nights, attributed = (
        pq.read_table(run.path / f"{name}.parquet", partitioning=None)
        for name in ("days", "tests", "calibration", "liquidations", "attribution")
    )
    tables = (
        _tests(days, tests, ", SYNTHETIC" if run.is_synthetic else ""),
        _scores(tests),
        _exceedances(days),
        _attribution(tests, attributed),
        _counts(counts, tests),
    )
    # Without marks the daily bars would be compared with themselves.
    has_marks = any(name.startswith("marks/") for name in run.manifest["inputs"])
    return (*tables, _bars(nights)) if has_marks else tables


def _tests(days: pa.Table, tests: pa.Table, mark: str) -> TextTable:
    found = _by_level(tests)
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
    title = f"Backtest of the nights {nights[0]} to {nights[-1]}, one day ahead{mark}"
    return TextTable(title, columns, rows, 1)


def _scores(tests: pa.Table) -> TextTable:
    """The tests that did not fit beside the zone, and the scores."""
    found = _by_level(tests)
    columns = {
        "binomial p": ("binomial", "p_value"),
        "first failure p": ("time_until_first_failure", "p_value"),
        "independence p": ("christoffersen.independence", "exact_p_value"),
        "Du-Esc. lagged p": ("du_escanciano.conditional", "p_value"),
        "Z1": ("acerbi_szekely.z1", "statistic"),
        "quantile loss": ("quantile_loss", "statistic"),
        "Fissler-Ziegel": ("fissler_ziegel_loss", "statistic"),
    }
    rows = [
        [
            name.replace("_", " "),
            f"{level:.4g}",
            *(_number(of[test], field) for test, field in columns.values()),
        ]
        for (name, level), of in found.items()
    ]
    title = "Further tests and scores (a score is only compared with that of another forecast)"
    return TextTable(title, ["scenario set", "level", *columns], rows, 1)


def _attribution(tests: pa.Table, nights: pa.Table) -> TextTable:
    """Whether the proxy rule moves with what it stands for."""
    rows = {row["test"]: row for row in tests.to_pylist() if row["confidence"] is None}
    whose = {"book": "whole book", "proxied": "proxied positions"}
    shown = []
    for of, words in whose.items():
        both = [rows[f"pnl_attribution.{of}.{part}"] for part in ("spearman", "kolmogorov_smirnov")]
        zone = both[0]["zone"] or "n/a"
        shown.append(
            [words, zone, f"{both[0]['n_days']:,}", *(_number(row, "statistic") for row in both)]
        )
    assets = sorted({name for text in nights["proxied"].to_pylist() for name in text.split(", ")})
    note = ", ".join(assets) if assets else "not applicable, nothing is proxied"
    title = f"P&L attribution, proxied moves against real ones ({note})"
    columns = ["P&L of", "zone", "days", "Spearman", "Kolmogorov-Smirnov"]
    return TextTable(title, columns, shown, 2)


def _bars(nights: pa.Table) -> TextTable:
    """What daily bars make of the days that marks were counted on: the worst days and all."""
    first = nights["scenario_set"][0].as_py()
    rows = [row for row in nights.to_pylist() if row["scenario_set"] == first]
    total = {"day": "all"} | {
        name: sum(row[name] for row in rows)
        for name in ("realised", "realised_daily", "only_daily", "only_marks")
    }
    differ = [row for row in rows if row["only_daily"] or row["only_marks"]]
    differ.sort(key=lambda row: (-row["only_daily"] - row["only_marks"], row["day"]))
    shown = [
        [
            str(row["day"]),
            f"{row['realised']:,}",
            f"{row['realised_daily']:,}",
            f"{row['only_daily']:,}",
            f"{row['only_marks']:,}",
            "n/a"
            if not row["realised"]
            else f"{row['realised_daily'] / row['realised'] - 1.0:+.2%}",
        ]
        for row in [*differ[:N_WORST], total]
    ]
    columns = ["day", "on marks", "on daily bars", "only daily", "only marks", "error"]
    return TextTable("Liquidations on daily bars, against the marks", columns, shown, 1)


def _by_level(tests: pa.Table) -> dict[tuple[str, float], dict[str, Any]]:
    found: dict[tuple[str, float], dict[str, Any]] = {}
    for row in tests.to_pylist():
        if row["confidence"] is not None:
            found.setdefault((row["scenario_set"], row["confidence"]), {})[row["test"]] = row
    return found


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
        if row["confidence"] is None and row["test"].startswith("liquidations.")
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
    value = row[field]
    if value is None:
        return "n/a"
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.4g}"
