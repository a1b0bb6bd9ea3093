"""Every backtest of every forecast, from the table of days; what cannot be had is said so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from risk import backtest
from risk.replay.attribution import attribution_pairs
from risk.replay.tables import CALIBRATION, TESTS
from risk.schema import FACTS

#: Lags of the dynamic quantile test and of the conditional Du-Escanciano test.
DQ_LAGS, DE_LAGS = 4, 1

#: Days the zones of P&L attribution are defined for (MAR32.20).
ATTRIBUTION_DAYS = 250


def judge(days: pa.Table) -> pa.Table:
    """Tests and scores of every scenario set and level.

    Exceedances count every day, a missing P&L or forecast being one; tests that need numbers use
    the days that have both, and say how many.

    Parameters
    ----------
    days : Table
        Schema DAYS, in order of time within a scenario set and level.

    Returns
    -------
    Table
        Schema TESTS.
    """
    rows: list[dict[str, Any]] = []
    for name, level in _groups(days):
        mask = pc.and_(
            pc.equal(days["scenario_set"], name), pc.equal(days["confidence"], pa.scalar(level))
        )
        rows += [
            {"scenario_set": name, "confidence": level} | row
            for row in _tests(days.filter(mask), level)
        ]
    return pa.Table.from_pylist(rows, schema=TESTS)


def _groups(days: pa.Table) -> list[tuple[str, float]]:
    pairs = zip(days["scenario_set"].to_pylist(), days["confidence"].to_pylist(), strict=True)
    return list(dict.fromkeys(pairs))


def _tests(days: pa.Table, level: float) -> Iterator[dict[str, Any]]:
    hits = days["is_exceedance"].to_numpy(zero_copy_only=False).astype(bool)
    x, n = int(hits.sum()), len(hits)
    columns = [
        days[name].to_numpy(zero_copy_only=False).astype("f8")
        for name in ("pnl_usd", "value_at_risk_usd", "expected_shortfall_usd", "pit")
    ]
    whole = np.isfinite(np.stack(columns)).all(axis=0)
    pnl, var, es, pit = (column[whole] for column in columns)
    m = int(whole.sum())
    yield _row("exceedances", n, statistic=x)
    yield _row("missing", n, statistic=n - m)
    yield _row("expected_exceedances", n, statistic=n * (1.0 - level))
    yield from _tried("kupiec", n, partial(backtest.kupiec, x, n, level))
    yield from _tried("binomial", n, partial(backtest.binomial, x, n, level), statistic="z_score")
    if x:
        first = int(np.argmax(hits)) + 1
        waited = partial(backtest.time_until_first_failure, first, level)
        yield from _tried("time_until_first_failure", n, waited)
    else:
        yield _row("time_until_first_failure", n, note="no exceedance yet")
    for part in ("independence", "conditional_coverage"):
        chain = partial(backtest.christoffersen, hits, level)
        yield from _tried(f"christoffersen.{part}", n, chain, part=part)
    light = backtest.traffic_light(x, n, level)
    yield _row("traffic_light", n, statistic=light.cumulative_probability, zone=light.zone)
    lagged = partial(backtest.dynamic_quantile, pnl, var, level, DQ_LAGS)
    yield from _tried("dynamic_quantile", m, lagged)
    for part in ("z1", "z2"):
        ratio = partial(backtest.acerbi_szekely, -pnl, var, es, level)
        yield from _tried(f"acerbi_szekely.{part}", m, ratio, part=part)
    for part in ("unconditional", "conditional"):
        violations = partial(backtest.du_escanciano, pit, level, DE_LAGS)
        yield from _tried(f"du_escanciano.{part}", m, violations, part=part)
    yield from _tried("quantile_loss", m, partial(backtest.quantile_loss, pnl, var, level))
    joint = partial(backtest.fissler_ziegel_loss, pnl, var, es, level)
    yield from _tried("fissler_ziegel_loss", m, joint)


def _row(test: str, n_days: int, **values: Any) -> dict[str, Any]:
    return {"test": test, "n_days": n_days} | values


def _tried(
    test: str,
    n_days: int,
    function: Callable[[], Any],
    *,
    part: str | None = None,
    statistic: str = "statistic",
) -> Iterator[dict[str, Any]]:
    """A test's row; a sentence instead of a number where the days do not allow it."""
    try:
        result = function()
        result = getattr(result, part) if part else result
    except ValueError as error:
        yield _row(test, n_days, note=f"not available: {error}")
        return
    if result is None:
        yield _row(test, n_days, note="not available: no exceedance to average over")
    elif isinstance(result, float):
        yield _row(test, n_days, statistic=result)
    else:
        yield _row(
            test,
            n_days,
            statistic=getattr(result, statistic),
            p_value=result.p_value,
            exact_p_value=getattr(result, "exact_p_value", None),
        )


def calibrate_liquidations(buckets: pa.Table) -> pa.Table:
    """Predicted against realised liquidations by forecast probability, over all nights.

    The positions of one night share one path, so days, not positions, are the observations, and
    the spread of a day's count is that of its scenarios: z = sum (realised - expected) / sqrt(sum
    variance), standard normal for many days if the forecasts are right.

    Parameters
    ----------
    buckets : Table
        Schema BUCKETS, every night.

    Returns
    -------
    Table
        Schema CALIBRATION, one row per scenario set and bucket that held a position.
    """
    found: dict[tuple[str, float, float], list[tuple[int, float, float, int]]] = {}
    for row in buckets.to_pylist():
        key = (row["scenario_set"], row["lower"], row["upper"])
        part = (row["n_position_days"], row["expected"], row["variance"], row["realised"])
        found.setdefault(key, []).append(part)
    rows = []
    for (name, lower, upper), parts in sorted(found.items()):
        n, expected, variance, realised = (np.array(column) for column in zip(*parts, strict=True))
        z, p = z_of_days(realised, expected, variance)
        rows.append(
            {
                "scenario_set": name,
                "lower": lower,
                "upper": upper,
                "n_position_days": int(n.sum()),
                "expected": float(expected.sum()),
                "variance": float(variance.sum()),
                "realised": int(realised.sum()),
                "n_days": len(parts),
                "z_score": z,
                "p_value": p,
            }
        )
    return pa.Table.from_pylist(rows, schema=CALIBRATION)


def z_of_days(
    realised: np.ndarray, expected: np.ndarray, variance: np.ndarray
) -> tuple[float | None, float | None]:
    """Score of realised less expected counts over days, and its two-sided p-value.

    Parameters
    ----------
    realised, expected, variance : ndarray (day,)
        Counts, and mean and variance of their forecasts.

    Returns
    -------
    z_score, p_value : float or None
        Where every forecast is certain there is no score; the p-value is then 0 if one of them
        was wrong, else None.

    Examples
    --------
    >>> z, p = z_of_days(np.array([3, 0, 0, 0]), np.full(4, 0.25), np.full(4, 1.0))
    >>> z, round(p, 4)
    (1.0, 0.3173)
    """
    total = float(np.sum(variance))
    if total <= 0.0:
        return None, None if np.allclose(realised, expected) else 0.0
    z = float(np.sum(realised - expected)) / math.sqrt(total)
    return z, float(2.0 * stats.norm.sf(abs(z)))


def judge_attribution(nights: pa.Table) -> pa.Table:
    """Basel's P&L attribution test where the forecast rests on proxies.

    Parameters
    ----------
    nights : Table
        Schema ATTRIBUTION; empty where nothing is proxied.

    Returns
    -------
    Table
        Schema TESTS, under the historical set: `pnl_attribution.<of>.spearman` and
        `.kolmogorov_smirnov` with their zone, of the whole ``book`` and of its ``proxied``
        positions alone. There is no zone below `ATTRIBUTION_DAYS` days: its limits are made for
        that many, and a distance of n days is a multiple of 1 / n.
    """
    rows: list[dict[str, Any]] = []
    n = nights.num_rows
    for of, (hypothetical, theoretical) in attribution_pairs(nights).items():
        found, zone, note = None, None, "not applicable: no asset of the book is proxied"
        if n:
            try:
                found = backtest.pnl_attribution(hypothetical, theoretical)
                zone = found.zone if n >= ATTRIBUTION_DAYS else None
                note = f"no zone: its limits are for {ATTRIBUTION_DAYS} days"
            except ValueError as error:
                note = f"not available: {error}"
        for part in ("spearman", "kolmogorov_smirnov"):
            rows.append(
                {"scenario_set": "historical", "confidence": None}
                | _row(
                    f"pnl_attribution.{of}.{part}",
                    n,
                    statistic=getattr(found, part) if found else None,
                    zone=zone,
                    note=None if zone else note,
                )
            )
    return pa.Table.from_pylist(rows, schema=TESTS)


def judge_liquidations(counts: pa.Table) -> pa.Table:
    """Tests of the liquidation counts of every scenario set.

    Parameters
    ----------
    counts : Table
        Schema LIQUIDATIONS; nights without a forecast are left out.

    Returns
    -------
    Table
        Schema TESTS: `liquidations.expected`, `liquidations.realised`, `liquidations.mean` (see
        `z_of_days`), `liquidations.p99` (Kupiec's test of days beyond the 99 % quantile) and what
        the history's daily bars make of the same days: `liquidations.daily_bars` (how many they
        liquidate), `.only_daily` and `.only_marks` (positions one of the two sees alone).
    """
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(counts["scenario_set"].to_pylist()):
        mine = counts.filter(pc.equal(counts["scenario_set"], name))
        mine = mine.filter(pc.is_valid(mine["expected"]))
        expected, variance, realised, bound = (
            mine[column].to_numpy(zero_copy_only=False).astype("f8")
            for column in ("expected", "variance", "realised", "forecast_p99")
        )
        n = len(expected)
        z, p = z_of_days(realised, expected, variance)
        made = [
            _row("liquidations.expected", n, statistic=float(expected.sum())),
            _row("liquidations.realised", n, statistic=float(realised.sum())),
            _row(
                "liquidations.mean",
                n,
                statistic=z,
                p_value=p,
                note=None if z is not None else "not available: every forecast is certain",
            ),
        ]
        for part in ("realised_daily", "only_daily", "only_marks"):
            test = "daily_bars" if part == "realised_daily" else part
            made.append(
                _row(f"liquidations.{test}", n, statistic=float(sum(mine[part].to_pylist())))
            )
        beyond = int((realised > bound).sum())
        made += _tried("liquidations.p99", n, partial(backtest.kupiec, beyond, n, 0.99))
        rows += [{"scenario_set": name, "confidence": None} | row for row in made]
    return pa.Table.from_pylist(rows, schema=TESTS)


def backtest_facts(tests: pa.Table, as_of: Any) -> pa.Table:
    """Every number of the tests as a fact: ``backtest.<set>.<level>.<test>.<field>``."""
    rows = []
    for row in tests.to_pylist():
        level = row["confidence"]
        where = row["scenario_set"] if level is None else f"{row['scenario_set']}.{level:g}"
        scope = f"{row['scenario_set']}, {row['n_days']} days"
        for field in ("statistic", "p_value", "exact_p_value"):
            if row[field] is None and (field != "statistic" or row["note"] is None):
                continue
            rows.append(
                {
                    "fact_id": f"backtest.{where}.{row['test']}.{field}",
                    "value": row[field],
                    "unit": "1",
                    "decimals": 4,
                    "scope": scope if level is None else f"{scope}, {level:.4g}",
                    "as_of": as_of,
                }
            )
    return pa.Table.from_pylist(rows, schema=FACTS)
