"""Random positions and paths, and the book table that stands for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from risk.drivers import make_drivers
from risk.margin.partial import StepRule
from risk.schema import BOOK, GAPS
from tests.brute import Position, record

RATES = (0.004, 0.01, 0.025, 0.05, 0.1)


def random_position(rng, *, mark=100.0, steps=0.0):
    """One position that is alive at the mark, with any of the features a rung can have.

    A share `steps` of them is liquidated in steps through the tiers.
    """
    while True:
        inverse, direction = bool(rng.integers(2)), int(rng.choice([-1, 1]))
        entry = mark * rng.uniform(0.85, 1.2)
        size = float(rng.lognormal(3, 2)) * (mark if inverse else 1.0)
        leverage = rng.choice([0.8, 2, 5, 10, 20, 50, 100])
        value = size / entry if inverse else size * entry
        is_cut = rng.random() < steps
        position = Position(
            inverse=inverse,
            direction=direction,
            size=size,
            entry=entry,
            mark=mark,
            wallet=value / leverage * rng.uniform(0.9, 1.5),
            tiers=random_tiers(rng, value),
            fee_in_trigger=float(rng.choice([0.0, 0.0005])),
            closing_fee=float(rng.choice([0.0, 0.0005, 0.02])),
            liquidation_fee=float(rng.choice([0.0, 0.0075, 0.03])),
            to_holder=bool(rng.integers(2)),
            entry_basis=bool(rng.integers(2)),
            fee_at_bankruptcy=bool(rng.integers(2)),
            tiers_per_step=int(rng.integers(1, 4)) if is_cut else None,
            original=size,
        )
        if position.excess(mark) > 0:
            break
    trigger = position.trigger()
    if rng.random() < 0.3:
        edge = trigger if trigger is not None else mark * (0.5 if direction > 0 else 2.0)
        position = replace(position, stop=float(mark + (edge - mark) * rng.uniform(0.2, 0.95)))
    return position


def random_tiers(rng, value):
    """Up to five tiers around a notional, each charging more; amounts keep them continuous."""
    n = int(rng.integers(1, len(RATES) + 1))
    floors = [0.0, *(value * np.sort(rng.uniform(0.05, 1.3, n - 1)))]
    amount, tiers = 0.0, []
    for i, (floor, rate) in enumerate(zip(floors, RATES, strict=False)):
        amount += floor * (rate - RATES[i - 1]) if i else 0.0
        tiers.append((float(floor), rate, float(amount)))
    return tuple(tiers)


def step_text(position):
    """How the position's contract is cut, as the book carries it."""
    return None if position.tiers_per_step is None else rule_text(position)


def rule_text(position):
    """The liquidation test of the position's contract, as the book carries it."""
    floor, rate, amount = zip(*position.tiers, strict=True)
    return StepRule(
        tiers_per_step=position.tiers_per_step or 0,
        is_entry_basis=position.entry_basis,
        trigger_fee_rate=position.fee_in_trigger,
        is_fee_at_bankruptcy=position.fee_at_bankruptcy,
        is_strict=False,
        floor=floor,
        rate=rate,
        amount=amount,
    ).to_text()


def book_of(positions, assets=None, **labels):
    """The book table of some twin positions; `assets` and labels are per position."""
    n = len(positions)
    columns = {name: [None] * n for name in BOOK.names}
    columns |= {"position_id": [f"p{i:05d}" for i in range(n)], "status": ["ok"] * n}
    for name in ("account", "venue", "settle", "kind", "side", "book", "symbol"):
        columns[name] = labels.get(name, ["all"] * n)
    columns["asset"] = assets or ["BTC"] * n
    columns["is_stale"] = [False] * n
    for i, position in enumerate(positions):
        usd = position.mark if position.inverse else 1.0
        equity = position.equity(position.mark) * usd
        exposure = equity if position.inverse else 0.0
        exposure += position.direction * position.value(position.mark) * usd
        trigger = position.trigger()
        columns["notional"][i] = position.value(position.mark)
        columns["unrealized_pnl"][i] = position.profit(position.size, position.mark)
        columns["liquidation_steps"][i] = step_text(position)
        columns["requirement"][i] = rule_text(position)
        columns["mark_price"][i] = position.mark
        columns["direction"][i] = position.direction
        columns["is_inverse"][i] = position.inverse
        columns["equity_usd"][i] = equity
        columns["exposure_usd"][i] = exposure
        columns["notional_usd"][i] = position.value(position.mark) * usd
        columns["trigger"][i] = None if trigger is None else trigger / position.mark
        columns["stop_trigger"][i] = (
            None if position.stop is None else position.stop / position.mark
        )
        columns["closing_fee_rate"][i] = position.closing_fee
        columns["liquidation_fee_rate"][i] = position.liquidation_fee
        columns["leftover_to_holder"][i] = position.to_holder
    return pa.table(
        {
            field.name: pa.array(columns[field.name], _plain(field.type)).cast(field.type)
            for field in BOOK
        },
        schema=BOOK,
    )


def random_path(rng, steps=6, spread=0.08, jumps=0.4):
    """Steps that drift or jump; the first ratio is 1."""
    here, path = 1.0, []
    for _ in range(steps):
        here *= float(np.exp(rng.normal(0, spread)))
        path.append(("jump" if rng.random() < jumps else "drift", here))
    return path


def drivers_of(paths_by_asset):
    """The driver record of {asset: [path, ...]}, the same number of paths for every asset."""
    assets = sorted(paths_by_asset)
    n = len(paths_by_asset[assets[0]])
    low, high, last = (np.ones((n, len(assets))) for _ in range(3))
    rows = []
    for a, asset in enumerate(assets):
        for i, path in enumerate(paths_by_asset[asset]):
            low[i, a], high[i, a], last[i, a], gaps = record(path)
            rows += [(i, a, *gap) for gap in gaps]
    columns = np.array(rows, "f8").reshape(-1, len(GAPS)).T
    return make_drivers(
        low, high, last, assets=assets, label=[str(i) for i in range(n)], source=["drawn"] * n,
        gaps=dict(zip(GAPS, columns, strict=True)),
    )  # fmt: skip


def _plain(kind):
    return kind.value_type if pa.types.is_dictionary(kind) else kind
