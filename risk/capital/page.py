"""The sections of the capital page, one function each: from measured numbers to lines.

Losses and requirements are positive amounts in USD. Whatever is not allowed, not in force or not
verified is computed all the same and labelled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from risk.capital.basel import (
    ADD_ONS,
    HORIZONS,
    RISK_WEIGHT,
    crypto_group_2b,
    group_2_limit,
    internal_model_capital,
    liquidity_horizon_expected_shortfall,
)
from risk.capital.counterparty import exposure_at_default, margined_add_on
from risk.capital.crypto import group_2a_capital
from risk.capital.lines import Section
from risk.capital.market import (
    MarketTails,
    model_capital,
    non_modellable_add_on,
    stressed_expected_shortfall,
    value_at_risk_capital,
)
from risk.capital.settings import CapitalSettings

#: Said wherever a modelled figure stands beside a crypto rule.
NOT_ALLOWED = (
    "The internal model is not allowed for group 2 cryptoassets (SCO60): no capital requirement"
)


@dataclass(frozen=True)
class Exceedances:
    """Backtest of the book's one-day value at risk at 99 %.

    Attributes
    ----------
    count, n_days : int
        Exceedances and days.
    zone : str
        Traffic light.
    basis : str
        What was compared, in words.
    """

    count: int
    n_days: int
    zone: str
    basis: str


def internal_model(
    settings: CapitalSettings, as_of: date, tails: MarketTails, backtest: Exceedances | None
) -> Section:
    """Internal model: liquidity-horizon cascade, stressed calibration, add-on, multiplier."""
    lines = Section(settings, "internal_model", as_of)
    year = f"{tails.n_windows} overlapping ten-day windows of the latest year"
    worst = f"worst year: {tails.stress_start} to {tails.stress_end}, since {tails.history_start}"
    cascades = {
        name: liquidity_horizon_expected_shortfall(_of_table(values))
        for name, values in (
            ("full_current", tails.full_current),
            ("reduced_current", tails.reduced_current),
            ("reduced_stressed", tails.reduced_stressed),
        )
    }
    for name, title, basis in (
        ("full_current", "Expected shortfall, all factors, latest year", year),
        ("reduced_current", "The same, reduced set of factors", year),
        ("reduced_stressed", "Reduced set in its worst year", worst),
    ):
        lines.value("expected_shortfall_confidence")
        lines.value("liquidity_horizon_majors")
        lines.value("liquidity_horizon_others")
        lines.add(name, title, cascades[name], "USD", f"MAR33.4-33.5; {basis}")
    floor = lines.value("reduced_set_floor")
    lines.add(
        "reduced_share",
        "Reduced over full set, latest year",
        100.0 * tails.reduced_share,
        "%",
        f"At least {100 * floor:g} %, tonight; {tails.n_reduced} of {tails.n_factors} factors",
    )
    stressed = stressed_expected_shortfall(
        cascades["reduced_stressed"], cascades["full_current"], cascades["reduced_current"]
    )
    imcc = model_capital(stressed, [stressed], lines.value("class_correlation"))
    lines.add(
        "imcc", "Capital of modellable factors", imcc, "USD",
        "MAR33.5, MAR33.14; one risk class, so the class and the total are the same",
        after=("full_current", "reduced_current", "reduced_stressed", "reduced_share"),
    )  # fmt: skip
    ses = non_modellable_add_on(
        tails.not_modellable.values(), lines.value("non_modellable_correlation")
    )
    lines.value("non_modellable_horizon")
    lines.add(
        "ses", "Add-on for non-modellable factors", ses, "USD",
        f"MAR33.16-33.17; {len(tails.not_modellable)} factors fail the test of MAR31.12-31.14",
    )  # fmt: skip
    if backtest is None:
        lines.add("multiplier", "Multiplier", None, "x", note="no backtest in this run")
        lines.add("capital", "Capital", None, "USD", note="needs the multiplier")
        return lines
    lines.add(
        "exceedances", "Exceedances of the one-day value at risk", float(backtest.count), "1",
        f"MAR32.5; {backtest.basis}",
    )  # fmt: skip
    added = lines.value(f"add_on_{min(backtest.count, 10)}") if backtest.count >= 5 else ADD_ONS[0]
    multiplier = lines.value("base_multiplier") + added
    lines.add(
        "multiplier", "Multiplier", multiplier, "x",
        f"MAR32.9 table 1; {backtest.zone} zone", note=_short(backtest.n_days),
    )  # fmt: skip
    amount = internal_model_capital(imcc, imcc, ses, ses, multiplier)
    lines.add(
        "capital", "Capital", amount, "USD", "MAR33.41; averages are tonight's own figures",
        after=("imcc", "ses", "multiplier"), note=NOT_ALLOWED,
    )  # fmt: skip
    lines.add(
        "rwa", "Risk-weighted assets", RISK_WEIGHT * amount, "USD", "MAR20: capital times 12.5",
        after=("capital",), note=NOT_ALLOWED,
    )  # fmt: skip
    return lines


def value_at_risk_plus_stressed(
    settings: CapitalSettings, as_of: date, tails: MarketTails, backtest: Exceedances | None
) -> Section:
    """Value at risk plus stressed value at risk, ten days at 99 %."""
    lines = Section(settings, "value_at_risk", as_of)
    lines.add(
        "latest", "Value at risk, ten days", tails.value_at_risk, "USD",
        f"CRR Art. 365(1): 99 %, {tails.n_windows} overlapping windows of the latest year",
    )  # fmt: skip
    lines.add(
        "stressed", "Stressed value at risk, ten days", tails.stressed_value_at_risk, "USD",
        f"CRR Art. 365(2): {tails.stress_start} to {tails.stress_end}, proxies where a factor "
        "had no price",
        verified=False,
    )  # fmt: skip
    if backtest is None:
        lines.add("capital", "Capital", None, "USD", note="no backtest in this run")
        return lines
    least = lines.value("value_at_risk_multiplier")
    added = lines.value(f"plus_factor_{min(backtest.count, 10)}") if backtest.count >= 5 else 0.0
    lines.add(
        "multiplier", "Multiplier of both", least + added, "x",
        f"CRR Art. 366; {backtest.count} overshootings; {backtest.basis}",
        note=_short(backtest.n_days),
    )  # fmt: skip
    amount = value_at_risk_capital(
        tails.value_at_risk, tails.value_at_risk, least + added,
        tails.stressed_value_at_risk, tails.stressed_value_at_risk, least + added,
    )  # fmt: skip
    lines.add("capital", "Own funds requirement", amount, "USD",
              "CRR Art. 364(1); averages are tonight's own figures",
              after=("latest", "stressed", "multiplier"))  # fmt: skip
    return lines


def crypto_exposures(
    settings: CapitalSettings, as_of: date, exposures: Sequence[tuple[str, str, float]]
) -> Section:
    """Group 2a modified standardised approach, group 2b, and the two limits.

    `exposures` are (asset, factor, delta-adjusted USD, long positive): a factor is a venue and a
    kind of contract, which stands for its tenor.
    """
    lines = Section(settings, "crypto", as_of)
    members = set(settings.lists["group_2a"].members) if "group_2a" in settings.lists else set()
    known = "group_2a" in settings.lists and settings.lists["group_2a"].verified
    by_asset: dict[str, list[float]] = {}
    for asset, _, amount in exposures:
        by_asset.setdefault(asset, []).append(amount)
    long = {a: math.fsum(x for x in amounts if x > 0) for a, amounts in by_asset.items()}
    short = {a: -math.fsum(x for x in amounts if x < 0) for a, amounts in by_asset.items()}
    inside = sorted(set(by_asset) & members)
    outside = sorted(set(by_asset) - members)
    named = ", ".join(inside) or "none held"
    correlation, weight = lines.value("group_2a_correlation"), lines.value("group_2a_risk_weight")
    capital_2a = group_2a_capital([weight * np.array(by_asset[a]) for a in inside], correlation)
    lines.add(
        "group_2a", "Group 2a, risk-weighted assets", RISK_WEIGHT * capital_2a, "USD",
        f"SCO60.73-60.78: {named}; delta only, coins add up", verified=known,
    )  # fmt: skip
    lines.value("group_2b_risk_weight")
    lines.add(
        "group_2b", "Group 2b, risk-weighted assets",
        crypto_group_2b([long[a] for a in outside], [short[a] for a in outside]), "USD",
        f"1250 % of the larger leg of each of {len(outside)} coins", verified=known,
    )  # fmt: skip
    exposure = math.fsum(max(long[a], short[a]) for a in by_asset)
    lines.add("exposure", "Group 2 exposure", exposure, "USD",
              "SCO60.116: larger leg of each coin, delta-adjusted")  # fmt: skip
    tier_1 = lines.value("tier_1")
    lines.add("tier_1", "Tier 1 capital", tier_1, "USD", "Ledger, tier 1 capital")
    if tier_1 <= 0.0:
        lines.add("share", "Exposure over tier 1", None, "%", note="no tier 1 capital is given")
        return lines
    limit = group_2_limit(exposure, tier_1)
    words = {
        "within": "within 1 %", "excess_to_2b": "beyond 1 %: the excess is treated as group 2b",
        "all_to_2b": "beyond 2 %: all of group 2 is treated as group 2b",
    }  # fmt: skip
    lines.value("group_2_limit")
    lines.value("group_2_limit_all")
    lines.add("share", "Exposure over tier 1", 100.0 * limit.share, "%",
              f"SCO60.116-60.119; {words[limit.state]}", after=("tier_1",))  # fmt: skip
    lines.add("excess", "Exposure beyond 1 % of tier 1", limit.excess, "USD", "SCO60.117",
              after=("tier_1",))  # fmt: skip
    after = _after_limit(limit.state, capital_2a, exposure, limit.excess, long, short, outside)
    lines.add("rwa", "Risk-weighted assets after the limits", after, "USD",
              f"SCO60.116-60.119; {words[limit.state]}", after=("group_2a", "tier_1"))  # fmt: skip
    ratio = lines.value("capital_ratio")
    lines.add("capital", "Capital", ratio * after, "USD", "Risk-weighted assets times the ratio",
              after=("rwa",))  # fmt: skip
    return lines


def _after_limit(
    state: str, capital_2a: float, exposure: float, excess: float, long: Mapping[str, float],
    short: Mapping[str, float], outside: Sequence[str],
) -> float:  # fmt: skip
    if state == "all_to_2b":
        return crypto_group_2b(list(long.values()), list(short.values()))
    assets_2b = crypto_group_2b([long[a] for a in outside], [short[a] for a in outside])
    plain = RISK_WEIGHT * capital_2a + assets_2b
    if state == "within":
        return plain
    # What lies beyond the limit leaves its group and is weighed like group 2b.
    held_2a = exposure - assets_2b / RISK_WEIGHT
    moved = min(excess, held_2a)
    return plain + moved * (RISK_WEIGHT - (RISK_WEIGHT * capital_2a / held_2a if held_2a else 0.0))


def counterparty(
    settings: CapitalSettings, as_of: date, notional: np.ndarray, equity: np.ndarray
) -> Section:
    """Counterparty exposure to the holders, each position its own netting set."""
    lines = Section(settings, "counterparty", as_of)
    n = len(notional)
    alone = (
        "CRE52.2: an isolated position nets with nothing; one of an account pool is taken alone "
        "too, with its share of the pool's equity"
    )
    lines.add("n", "Netting sets", float(n), "1", alone)
    factor, days = lines.value("crypto_supervisory_factor"), lines.value("margin_period_days")
    add_on = margined_add_on(notional, factor, days)
    alpha, floor = lines.value("sa_ccr_alpha"), lines.value("sa_ccr_floor")
    found = exposure_at_default(-equity, add_on, alpha=alpha, floor=floor)
    used = (
        f"{100 * factor:g} % of the notional, margin period {days:g} days, alpha {alpha:g}, "
        f"multiplier at least {100 * floor:g} %"
    )
    lines.add("exposure", "Exposure at default", math.fsum(found.exposure), "USD", f"CRE52; {used}")
    lines.add("replacement_cost", "of it replacement cost, times alpha",
              alpha * math.fsum(found.replacement_cost), "USD", "CRE52.10, CRE52.18")  # fmt: skip
    future = math.fsum(found.multiplier * found.add_on)
    lines.add("future", "of it potential future exposure, times alpha", alpha * future, "USD",
              "CRE52.20-52.23", after=("exposure",))  # fmt: skip
    total = math.fsum(found.add_on)
    lines.add("multiplier", "Mean multiplier", 100.0 * future / total if total else None, "%",
              "CRE52.23: what collateral above the mark leaves of the add-on", after=("exposure",),
              note=None if total else "no priced position")  # fmt: skip
    lines.add("largest", "Largest netting set", float(found.exposure.max()) if n else None, "USD",
              "CRE52", after=("exposure",), note=None if n else "no priced position")  # fmt: skip
    weight = lines.value("counterparty_risk_weight")
    rwa = weight * math.fsum(found.exposure)
    lines.add("rwa", "Risk-weighted assets", rwa, "USD", f"{100 * weight:g} %, unrated holders",
              after=("exposure",))  # fmt: skip
    lines.add("capital", "Capital", lines.value("capital_ratio") * rwa, "USD",
              "Risk-weighted assets times the ratio", after=("rwa",))  # fmt: skip
    return lines


def margin_coverage(settings: CapitalSettings, as_of: date, found: Any, basis: str) -> Section:
    """Achieved margin coverage over position-days; `found` is what `uncovered_losses` returns."""
    lines = Section(settings, "margin_coverage", as_of)
    days = found.n_positions * len(found.count)
    bad = int(found.count.sum())
    none = None if days else "no priced position"
    lines.add("observations", "Position-days", float(days), "1", basis)
    lines.add("uncovered", "of these uncovered", float(bad), "1",
              "Loss over the horizon beyond the collateral")  # fmt: skip
    share = None if not days else 100.0 * (1.0 - bad / days)
    target = 100.0 * lines.value("margin_coverage_target")
    word = "" if share is None else "; met" if share >= target else "; missed"
    lines.add("achieved", "Achieved coverage", share, "%", f"Target {target:g} %{word}", note=none)
    peak = float(found.worst.max()) if days else None
    lines.add("peak", "Largest uncovered loss of one position", peak, "USD", basis, note=none)
    mean = float(found.total.sum() / bad) if bad else None
    lines.add("mean", "Mean uncovered loss", mean, "USD each", "Over the uncovered position-days",
              note=None if bad else "none was uncovered")  # fmt: skip
    total = float(found.total.max()) if days else None
    lines.add("worst_day", "Uncovered on the worst day, all positions", total, "USD", basis,
              note=none)  # fmt: skip
    return lines


def own_funds_requirement(settings: CapitalSettings, as_of: date) -> Section:
    """Own funds of a service provider: the larger of its minimum and a quarter of overheads."""
    lines = Section(settings, "own_funds_requirement", as_of)
    rate = lines.value("eur_usd")
    least = rate * lines.value("own_funds_minimum_eur")
    lines.add("minimum", "Minimum of its class", least, "USD", f"EUR at {rate:g} USD")
    overheads = lines.value("fixed_overheads")
    part = overheads * lines.value("overheads_share")
    lines.add("overheads", "Share of last year's fixed overheads", part, "USD")
    required = max(least, part)
    lines.add("required", "Own funds required", required, "USD", "Larger of the two above",
              after=("minimum", "overheads"))  # fmt: skip
    held = lines.value("own_funds")
    lines.add("held", "Own funds held", held, "USD")
    lines.add("surplus", "Surplus", held - required, "USD", "Held less required",
              after=("required", "held"))  # fmt: skip
    return lines


def _of_table(values: Mapping[int, float]) -> dict[int, float]:
    """Horizons of the standard's table, each with the nested set that applies to it."""
    return {h: values[h] for h in HORIZONS if h in values}


def _short(n_days: int) -> str | None:
    return None if n_days >= 250 else f"only {n_days} of 250 days"
