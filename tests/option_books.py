"""Random option positions and paths, and the book and driver record that stand for them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.drivers import make_drivers
from risk.margin.options import OptionTerms
from risk.schema import BOOK
from tests.brute_options import Holding, Option

RATES = {("okx", True): (0.03, 0.0), ("okx", False): (0.03, 0.0),
         ("deribit", True): (0.075, 0.0), ("deribit", False): (0.075, 0.075)}  # fmt: skip


def random_option(rng, *, rounding=True):
    """Any contract that a venue could list, a day to a year from its expiry."""
    index = float(rng.choice([2.5, 3_000.0, 100_000.0]))
    inverse = bool(rng.integers(2))
    option = Option(
        call=bool(rng.integers(2)),
        inverse=inverse,
        strike=index * float(np.exp(rng.normal(0, 0.25))),
        index=index,
        years=float(rng.choice([0.4, 1.0, 3.0, 10.0, 80.0, 300.0])) / 365,
        basis=float(rng.choice([0.0, 0.002, -0.01, 0.04])),
        volatility=float(rng.uniform(0.2, 1.8)),
        rounding=0.0,
        style=str(rng.choice(["okx", "deribit"])),
        fee_in_trigger=float(rng.choice([0.0, 0.0003])),
        closing_fee=float(rng.choice([0.0, 0.0003, 0.01])),
        liquidation_fee=float(rng.choice([0.0, 0.0075, 0.05])),
        to_holder=bool(rng.integers(2)),
        strict=bool(rng.integers(2)),
    )
    if rounding:
        option.rounding = float(rng.choice([0.0, 1e-4, -1e-4])) * (1 if inverse else index)
    return option


def random_holding(rng, option):
    """Bought, or written with anything from hardly enough collateral to plenty."""
    units = float(rng.lognormal(0, 2))
    if rng.random() < 0.3:
        return Holding(option, short=False, units=units)
    needed = option.needed(option.mark(), 1.0)
    return Holding(option, True, units, units * needed * float(1.0 + rng.exponential(0.6) + 1e-6))


def terms_of(option):
    base_rate, mark_rate = RATES[option.style, option.call]
    return OptionTerms(
        is_call=option.call, is_inverse=option.inverse, strike=option.strike,
        index_price=option.index, years=option.years, carry=math.log1p(option.basis),
        volatility=option.volatility, mark=option.mark(), offset=option.rounding,
        base_rate=base_rate, mark_rate=mark_rate, trigger_fee=option.fee_in_trigger,
        closing_fee=option.closing_fee, liquidation_fee=option.liquidation_fee,
        leftover_to_holder=option.to_holder, is_strict=option.strict,
    )  # fmt: skip


def book_of(holdings, assets, **labels):
    """The book table of some holdings; `assets` and labels are per position."""
    n = len(holdings)
    columns = {name: [None] * n for name in BOOK.names}
    columns |= {"position_id": [f"p{i:05d}" for i in range(n)], "status": ["ok"] * n}
    for name in ("account", "venue", "settle", "kind", "side", "book", "symbol"):
        columns[name] = labels.get(name, ["all"] * n)
    columns["asset"] = assets
    columns["is_stale"] = [False] * n
    for i, held in enumerate(holdings):
        columns["direction"][i] = -1 if held.short else 1
        columns["is_inverse"][i] = held.option.inverse
        columns["option_terms"][i] = terms_of(held.option).to_text()
        columns["option_units"][i] = held.units
        columns["option_margin"][i] = held.collateral if held.short else None
        columns["notional_usd"][i] = held.units * held.option.index
    plain = {f.name: f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in BOOK}
    return pa.table(
        {f.name: pa.array(columns[f.name], plain[f.name]).cast(f.type) for f in BOOK}, schema=BOOK
    )


def random_paths(rng, n, steps, *, spread=0.06):
    """Steps of (elapsed years, ratio, volatility multiple) over one day, with jumps."""
    paths = []
    for _ in range(n):
        move = rng.normal(0, spread, steps) + (rng.random(steps) < 0.1) * rng.normal(0, 0.2, steps)
        wild = np.cumsum(rng.normal(0, 0.1, steps))
        elapsed = (np.arange(steps) + 1) / steps / 365
        paths.append(list(zip(elapsed, np.exp(np.cumsum(move)), np.exp(wild), strict=True)))
    return paths


def record_of(paths_by_asset):
    """The driver record, with recorded paths, of {asset: [path, ...]}."""
    assets = sorted(paths_by_asset)
    cube = np.array([paths_by_asset[asset] for asset in assets])  # (asset, scenario, step, 3)
    ratio = cube[..., 1]
    n = ratio.shape[1]
    drivers = make_drivers(
        np.minimum(ratio.min(axis=2), 1.0).T, np.maximum(ratio.max(axis=2), 1.0).T,
        ratio[..., -1].T, assets=assets, label=[str(i) for i in range(n)], source=["drawn"] * n,
    )  # fmt: skip
    dims = ("path_asset", "scenario", "step")
    return drivers.assign(
        path=xr.Variable(dims, ratio),
        log_volatility=xr.Variable(dims, np.log(cube[..., 2])),
    ).assign_coords(path_asset=np.array(assets, object), step_days=("step", cube[0, 0, :, 0] * 365))
