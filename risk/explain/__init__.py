"""Why value at risk moved from one night to the next, one cause after the other.

The causes are taken in a fixed order (`COMPONENTS`); each one is changed on top of those before it
and the book is valued again through the ladders, with the same random numbers. The effects
therefore add up to the change; what a cause gets depends on its place, which is documented in
``docs/methods/explain.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from risk.config import Config
from risk.coverage import mark_unpriced
from risk.errors import ConfigError
from risk.explain.books import Book, book_of, books
from risk.explain.markets import Day, Market, markets
from risk.liquidation import build_ladders, walk
from risk.margin.book import build_book
from risk.market.history import load_history
from risk.measures import value_at_risk
from risk.replay.forecast import forecast_drivers
from risk.snapshot import load_snapshot

#: The causes, in the order they are taken.
COMPONENTS = (
    "positions closed", "price level", "margin rules", "size and leverage", "collateral",
    "positions opened", "volatility", "window roll", "model and parameters", "listings", "residual",
)  # fmt: skip

#: Largest residual, as a share of the larger of the two values at risk.
RESIDUAL_LIMIT = 0.01

EXPLAIN = pa.schema(
    [
        pa.field("order", pa.int64(), False),
        pa.field("component", pa.string(), False),
        pa.field("effect_usd", pa.float64(), False),
        pa.field("value_at_risk_usd", pa.float64(), False),
        pa.field("detail", pa.string(), False),
        pa.field("is_within_limit", pa.bool_(), True),
    ]
)


def load_day(config: Config) -> Day:
    """The inputs of the night a config describes."""
    snapshot = load_snapshot(
        config.snapshot, as_of=config.as_of_date, venue_folders=[config.venues]
    )
    return Day(snapshot, load_history(config.history, snapshot.as_of), config)


def explain(
    before: Day,
    after: Day,
    *,
    scenario_set: str = "historical",
    confidence: float = 0.99,
    reported: tuple[float, float] | None = None,
    residual_limit: float = RESIDUAL_LIMIT,
) -> pa.Table:
    """Split the change of value at risk between two nights into its causes.

    Parameters
    ----------
    before, after : Day
        Usually consecutive; nothing assumes it.
    scenario_set : str
        A set both configs run, such as ``historical`` or ``monte_carlo``.
    confidence : float
        Level in (0, 1).
    reported : tuple of float, optional
        Published values at risk of the two nights, USD; those valued here when absent. The
        residual is what the causes do not explain of their difference.
    residual_limit : float
        Share of the larger value at risk the residual may reach.

    Returns
    -------
    Table
        `order`, `component`, `effect_usd`, `value_at_risk_usd` (after the component),
        `detail`, `is_within_limit` (of the residual, else null). The first row is the night before
        with no effect, then one row per entry of `COMPONENTS`; the effects add up to the change.

    Raises
    ------
    ConfigError
        If a night does not run the scenario set, or has no position that can be priced.
    """
    steps = list(_steps(before, after, scenario_set))
    assets = _held(steps)
    known: dict[tuple[int, int], float] = {}
    values = []
    for _, book, market, _ in steps:
        # Where neither book nor market changed, nothing is valued again: the effect is zero.
        key = (id(book), id(market))
        if key not in known:
            known[key] = _value(book, market, assets, scenario_set, confidence)
        values.append(known[key])
    effects = dict.fromkeys(COMPONENTS, 0.0)
    details = dict.fromkeys(COMPONENTS, "")
    for (name, *_, detail), here, previous in zip(steps[1:], values[1:], values, strict=False):
        effects[name] += here - previous
        details[name] = detail or details[name]
    start, end = reported or (values[0], values[-1])
    explained = math.fsum(effects.values())
    effects["residual"] = (end - start) - explained
    bound = residual_limit * max(abs(start), abs(end))
    details["residual"] = f"limit {residual_limit:.2%} of the larger value at risk"
    rows: list[dict[str, Any]] = [
        {"order": 0, "component": "night before", "effect_usd": 0.0, "value_at_risk_usd": start,
         "detail": str(before.snapshot.as_of)}
    ]  # fmt: skip
    for order, name in enumerate(COMPONENTS, start=1):
        so_far = math.fsum([start, *(effects[one] for one in COMPONENTS[:order])])
        rows.append(
            {
                "order": order,
                "component": name,
                "effect_usd": effects[name],
                "value_at_risk_usd": end if name == "residual" else so_far,
                "detail": details[name],
                "is_within_limit": abs(effects[name]) <= bound if name == "residual" else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=EXPLAIN)


def _steps(before: Day, after: Day, scenario_set: str) -> Iterator[tuple[str, Book, Market, str]]:
    """The chain of states from one night to the other: component, book, market, detail."""
    first, changes = markets(before, after, scenario_set)
    book, end = book_of(before.snapshot), book_of(after.snapshot)
    yield "", book, first, ""
    (name, market, detail), *later = changes
    yield name, book, market, detail
    for name, changed, detail in books(book, end):
        yield name, changed, market, detail
    book = end
    for name, market, detail in later:
        yield name, book, market, detail


def _value(
    state: Book, market: Market, assets: list[str], scenario_set: str, confidence: float
) -> float:
    """Value at risk of one state, USD."""
    book = build_book(
        state.positions,
        state.contracts,
        state.tiers,
        state.venues,
        as_of=state.as_of,
        accounts=state.accounts,
    )
    book = mark_unpriced(book, set(market.models.universe))
    ladders = build_ladders(book, assets, ["asset"], max(len(assets), 1))
    drivers = [
        record
        for name, record in forecast_drivers(market.past, market.plan, assets, models=market.models)
        if name == scenario_set
    ]
    if not drivers:
        raise ConfigError(f"no position of the book of {state.as_of} can be priced")
    pnl = np.concatenate(
        [walk(ladders, part).pnl.sum("cell", skipna=False).values for part in drivers]
    )
    weight = np.concatenate([part.weight.values * part.sizes["scenario"] for part in drivers])
    weight /= weight.sum()
    equal = np.ptp(weight) <= 1e-9 / len(weight)
    return float(value_at_risk(pnl, confidence, weights=None if equal else weight))


def _held(steps: Sequence[tuple[str, Book, Market, str]]) -> list[str]:
    """Sorted assets of the contracts that some market knows."""
    universes = {name for *_, market, _ in steps for name in market.models.universe}
    contracts = {name for _, book, *_ in steps for name in book.contracts["base"].to_pylist()}
    return sorted(universes & contracts)
