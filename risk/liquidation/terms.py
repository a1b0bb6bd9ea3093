"""Close-out terms: what closing each position pays, as functions of the closing price ratio.

Closing at ratio ``x`` leaves ``v(x) = alpha + beta x`` after market costs. The venue's fee comes
next and never creates a deficit; what is left goes to the holder or the fund:

    deficit    = max(0, -v)
    venue gain = min(fee, v+)  when the leftover is the holder's, else v+
    holder     = v+ - venue gain

Cost, fee and notional are proportional to the price for linear contracts and constant in USD for
inverse ones. The order of payment is `docs/design/0004-ladder.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.compiled import njit
from risk.errors import ConfigError, DataError
from risk.instruments import instrument_name, is_instrument
from risk.liquidation.cascade import cascade, no_events
from risk.liquidation.columns import Events, Held, Rules, Stairs, Terms
from risk.liquidation.grouping import distinct
from risk.liquidation.impact import Impact, no_impact
from risk.liquidation.steps import climb, tier_of
from risk.margin.partial import read_step_rule
from risk.margin.pooling import rows_apart

#: What the terms of a position are made of.
_COLUMNS = [
    "asset", "settle", "kind", "symbol", "direction", "is_inverse", "equity_usd", "exposure_usd",
    "notional", "notional_usd", "unrealized_pnl", "trigger", "stop_trigger", "liquidation_steps",
    "closing_fee_rate", "liquidation_fee_rate", "leftover_to_holder",
]  # fmt: skip


@dataclass(frozen=True)
class Closing:
    """How every priced position of a book is closed.

    Attributes
    ----------
    terms : Terms
        All of them; a rule marks those that are cut in steps.
    held : Held
        Those that are, in the same order.
    stairs : Stairs
        Their rungs.
    events : Events
        The cascade, if there is one.
    rules : Rules
    """

    terms: Terms
    held: Held
    stairs: Stairs
    events: Events
    rules: Rules


def close_out_terms(book: pa.Table, assets: Sequence[str], impact: Impact | None = None) -> Closing:
    """Terms of the priced positions of a book.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`; only rows with status ``ok`` are used, no options: those have
        `risk.liquidation.options`, and none in a pool or apart: those have
        `risk.liquidation.cross`.
    assets : sequence of str
        The drivers: assets, then instruments (`risk.instruments`). A position follows its
        instrument, or its asset where there is none; every priced position's asset must be there.
    impact : Impact, optional
        What closing does to the price; nothing when absent.

    Returns
    -------
    Closing

    Raises
    ------
    DataError
        If a priced position's asset has no driver.
    """
    alone = pc.and_(book["option_terms"].is_null(), book["pool_holdings"].is_null())
    priced = pc.and_(pc.equal(book["status"], "ok"), alone)
    rows = np.flatnonzero(priced.to_numpy(zero_copy_only=False))
    rows = np.setdiff1d(rows, rows_apart(book), assume_unique=True)
    # A replayed book has no labels: without instruments nobody asks for them.
    priced = book.select([name for name in _COLUMNS if name in book.column_names])
    if len(rows) < book.num_rows:
        priced = priced.take(pa.array(rows))

    def column(name: str) -> np.ndarray:
        return priced[name].to_numpy(zero_copy_only=False).astype("f8")  # null becomes NaN

    direction = column("direction")
    inverse = priced["is_inverse"].to_numpy(zero_copy_only=False)
    equity, exposure, notional = (
        column(name) for name in ("equity_usd", "exposure_usd", "notional_usd")
    )
    impact = impact or no_impact(len(assets))
    asset = driver_places(priced, assets)
    margin = -direction * column("trigger")
    stop = -direction * column("stop_trigger")
    margin[np.isnan(margin)] = np.inf
    stop[np.isnan(stop)] = np.inf
    # What was paid at entry: the notional less what the price has added since.
    unit = notional / column("notional")
    gained = np.where(inverse, -direction, direction) * column("unrealized_pnl") * unit
    rules, rule = read_rules(priced["liquidation_steps"])
    terms = Terms(
        row=rows,
        asset=asset,
        direction=direction.astype("i1"),
        inverse=inverse,
        equity=equity,
        exposure=exposure,
        first=np.minimum(stop, margin),
        margin=margin,
        fee=column("liquidation_fee_rate"),
        notional=notional,
        to_holder=priced["leftover_to_holder"].to_numpy(zero_copy_only=False),
        closing_fee=column("closing_fee_rate") + impact.waiting[asset],
        impact=impact.own_rate(asset, notional),
        entered=notional - gained,
        unit=unit,
        rule=rule,
    )
    able = np.flatnonzero((rule >= 0) & np.isfinite(margin))
    cut = able[is_cut(held_positions(terms.take(able)), rules)]
    kept = np.full(len(rows), -1, "i4")
    kept[cut] = rule[cut]
    terms = terms._replace(rule=kept)
    held = held_positions(terms.take(cut))
    if impact.kappa.any():
        return Closing(*cascade(terms, held, rules, impact.kappa, impact.permanent), rules)
    return Closing(terms, held, climb(held, rules), no_events(len(assets)), rules)


def driver_places(book: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Place among the drivers of each position's instrument, else of its asset.

    Raises
    ------
    DataError
        If an asset has no driver.
    """
    assets, codes = label_codes(book["asset"])
    place = {name: i for i, name in enumerate(names)}
    if unknown := sorted(set(assets) - set(place)):
        raise DataError(f"no driver for asset {', '.join(unknown)}; mark its positions unpriced")
    own = np.array([place[name] for name in assets], "i4")
    if not any(is_instrument(name) for name in names):
        return own[codes]
    labels = [
        book[name].combine_chunks().dictionary_encode() for name in ("settle", "kind", "symbol")
    ]
    key, n_keys = codes.astype("i8"), len(assets)
    for label in labels:
        size = max(len(label.dictionary), 1)
        key, n_keys = key * size + label.indices.to_numpy(), n_keys * size
    present, inverse = distinct(key, n_keys)
    first = np.empty(len(present), "i8")
    first[inverse] = np.arange(len(key))  # any of them
    which = [label.take(pa.array(first)).to_pylist() for label in labels]
    found = [
        place.get(instrument_name(assets[code], *said), own[code])
        for code, *said in zip(codes[first], *which, strict=True)
    ]
    return np.array(found, "i4").reshape(-1)[inverse]


def close_lines(terms: Terms) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What closing each position whole leaves and takes.

    Returns
    -------
    alpha, beta : ndarray (position,)
        Closing at ratio ``x`` leaves ``alpha + beta x`` US dollars after market costs.
    cost, fee : ndarray (position,)
        Market cost and liquidation fee, US dollars at ratio 1.
    """
    cost = (terms.closing_fee + terms.impact) * terms.notional
    alpha = terms.equity - terms.exposure - np.where(terms.inverse, cost, 0.0)
    beta = terms.exposure - np.where(terms.inverse, 0.0, cost)
    return alpha, beta, cost, terms.fee * terms.notional


def held_positions(terms: Terms) -> Held:
    """Positions under rules that cut them in steps, in the coordinate of `Held`."""
    head = np.where(terms.inverse, -1.0, 1.0) * terms.direction
    return Held(
        asset=terms.asset,
        side=(terms.direction < 0).astype("i1"),
        inverse=terms.inverse,
        first=terms.first,
        margin=terms.margin,
        intercept=np.where(terms.inverse, terms.exposure, terms.equity - terms.exposure),
        head=head,
        notional=terms.notional,
        entered=terms.entered,
        unit=terms.unit,
        rule=terms.rule,
        closing_fee=terms.closing_fee,
        impact=terms.impact,
        fee=terms.fee,
        to_holder=terms.to_holder,
    )


@njit
def is_cut(held: Held, rules: Rules) -> np.ndarray:
    """Whether a liquidation of each position can be a cut: not if its value stays in low tiers."""
    cut = np.empty(len(held.first), np.bool_)
    for p in range(len(cut)):
        value = held.entered[p]
        if not rules.is_entry_basis[held.rule[p]]:
            x = abs(held.margin[p])
            y = 1.0 / x if held.inverse[p] else x
            if held.head[p] < 0:
                # The value grows on the way to bankruptcy, past which everything is closed.
                reserve = 1.0 + held.closing_fee[p] + held.impact[p]
                y = max(y, held.intercept[p] / (held.notional[p] * reserve))
            value = held.notional[p] * y
        # A hair more, so that rounding cannot hide a cut.
        value *= (1.0 + 1e-9) / held.unit[p]
        cut[p] = tier_of(rules, held.rule[p], value) >= rules.tiers_per_step[held.rule[p]]
    return cut


def read_rules(column: pa.ChunkedArray) -> tuple[Rules, np.ndarray]:
    """The distinct rules of a column of texts, and each row's rule, -1 for null."""
    given = column.is_valid().to_numpy(zero_copy_only=False)
    texts, codes = label_codes(column.filter(pa.array(given)))
    rule = np.full(len(column), -1, "i4")
    rule[given] = codes
    parsed = [read_step_rule(text) for text in texts]
    n_tiers = max((len(rule.floor) for rule in parsed), default=1)

    def ladder(name: str) -> np.ndarray:
        rows = [getattr(rule, name) for rule in parsed]
        full = [row + row[-1:] * (n_tiers - len(row)) for row in rows]
        return np.array(full, "f8").reshape(len(parsed), n_tiers)

    rules = Rules(
        n_tiers=np.array([len(rule.floor) for rule in parsed], "i8"),
        tiers_per_step=np.array([rule.tiers_per_step for rule in parsed], "i8"),
        is_entry_basis=np.array([rule.is_entry_basis for rule in parsed], bool),
        trigger_fee=np.array([rule.trigger_fee_rate for rule in parsed], "f8"),
        is_fee_at_bankruptcy=np.array([rule.is_fee_at_bankruptcy for rule in parsed], bool),
        is_strict=np.array([rule.is_strict for rule in parsed], bool),
        floor=ladder("floor"),
        rate=ladder("rate"),
        amount=ladder("amount"),
    )
    return rules, rule


def label_codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Distinct strings in sorted order, and each row's index among them."""
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    used, inverse = distinct(encoded.indices.to_numpy(), len(names))
    present = [names[i] for i in used]
    order = sorted(range(len(present)), key=present.__getitem__)
    rank = np.empty(len(present), "i8")
    rank[order] = np.arange(len(present))
    return [present[i] for i in order], rank[inverse]


def make_cells(
    book: pa.Table, rows: np.ndarray, labels: Sequence[str], max_cells: int
) -> tuple[pa.Table, np.ndarray]:
    """Distinct combinations of roll-up labels and each position's cell.

    Returns
    -------
    cells : Table (cell,)
        One string column per label, sorted by the labels in their order.
    cell : ndarray (position,)

    Raises
    ------
    ConfigError
        If there are more than `max_cells`.
    """
    priced = book.select(list(labels)).take(pa.array(rows))
    parts = [label_codes(priced[label]) for label in labels]
    key, n_keys = np.zeros(len(rows), "i8"), 1
    for names, codes in parts:
        key, n_keys = key * len(names) + codes, n_keys * len(names)
    present, cell = distinct(key, n_keys)
    if len(present) > max_cells:
        raise ConfigError(
            f"cells {list(labels)} give {len(present)} cells, above max_cells {max_cells}: "
            "drop a label or raise max_cells"
        )
    columns: dict[str, list[str]] = {}
    left = present
    for label, (names, _) in zip(reversed(labels), reversed(parts), strict=True):
        left, code = np.divmod(left, max(len(names), 1))
        columns[label] = [names[i] for i in code]
    table = pa.table({label: pa.array(columns[label], pa.string()) for label in labels})
    return table, cell.astype("i4")
