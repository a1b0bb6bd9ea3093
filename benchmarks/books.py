"""Books and scenarios of any size, made in one go: the shape matters here, not the story."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.contracts.options import option_value
from risk.drivers import fall_gaps, make_drivers
from risk.margin.options import OptionTerms
from risk.margin.partial import StepRule
from risk.schema import BOOK

#: Triggers lie this far from the mark, spread evenly over the logarithm: leverage 2 to 100.
_NEAREST, _FURTHEST = 0.005, 0.6

#: Five tiers around the median position of 3,000 US dollars.
_RULE = StepRule(
    tiers_per_step=1, is_entry_basis=False, trigger_fee_rate=0.0, is_fee_at_bankruptcy=False,
    is_strict=False, floor=(0.0, 3e3, 1e4, 3e4, 1e5), rate=(0.004, 0.005, 0.01, 0.025, 0.05),
    amount=(0.0, 3.0, 53.0, 503.0, 3003.0),
)  # fmt: skip


def large_book(
    n_positions: int,
    n_assets: int,
    n_books: int,
    *,
    inverse: float = 0.1,
    steps: float = 0.0,
    seed: int = 1,
) -> pa.Table:
    """Longs and shorts over `n_assets` assets and `n_books` books, all priced.

    Of a share `steps` the larger half is liquidated in steps.
    """
    rng = np.random.default_rng(seed)
    direction = rng.choice([-1, 1], n_positions).astype("i1")
    is_inverse = rng.random(n_positions) < inverse
    notional = rng.lognormal(8, 1.5, n_positions)
    distance = np.exp(rng.uniform(np.log(_NEAREST), np.log(_FURTHEST), n_positions))
    equity = notional * (distance + 0.005)
    stop = np.where(rng.random(n_positions) < 0.05, 1 - direction * distance * 0.7, np.nan)
    rule = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(n_positions, "i4"), mask=rng.random(n_positions) >= steps),
        pa.array([_RULE.to_text()]),
    )
    n_labels = {"asset": n_assets, "book": n_books, "account": max(n_positions // 5, 1)}
    columns: dict[str, pa.Array] = {
        "equity_usd": equity,
        "notional_usd": notional,
        "notional": notional,
        "unrealized_pnl": np.zeros(n_positions),
        "liquidation_steps": rule,
        "exposure_usd": direction * notional + np.where(is_inverse, equity, 0.0),
        "trigger": 1 - direction * distance,
        "stop_trigger": stop,
        "closing_fee_rate": np.full(n_positions, 0.0005),
        "liquidation_fee_rate": np.full(n_positions, 0.0125),
        "direction": direction,
        "is_inverse": is_inverse,
        "leftover_to_holder": rng.random(n_positions) < 0.5,
        "is_stale": np.zeros(n_positions, bool),
        "status": pa.array(["ok"]).take(pa.array(np.zeros(n_positions, "i4"))),
        "position_id": pa.array(np.arange(n_positions) + 10**9).cast("string"),
    }
    for name in ("account", "venue", "settle", "asset", "kind", "side", "book", "symbol"):
        count = n_labels.get(name, 1)
        codes = pa.array(rng.integers(count, size=n_positions).astype("i4"))
        names = pa.array([f"{name}{i:07d}" for i in range(count)])
        columns[name] = pa.DictionaryArray.from_arrays(codes, names)
    return pa.table(
        {
            field.name: pa.array(columns[field.name], from_pandas=True)
            if field.name in columns
            else pa.nulls(n_positions, field.type)
            for field in BOOK
        }
    ).cast(BOOK)


def add_options(
    book: pa.Table, assets: list[str], n_contracts: int, n_positions: int, seed: int = 4
) -> pa.Table:
    """A book with written calls and puts of `n_contracts` contracts beside what it holds."""
    rng = np.random.default_rng(seed)
    index, offset, days = 100.0, 0.0, rng.choice([2.0, 7.0, 30.0, 90.0], n_contracts)
    texts, marks = [], []
    for k in range(n_contracts):
        strike, years = index * float(np.exp(rng.normal(0, 0.1))), float(days[k]) / 365
        mark = float(option_value(index, strike, years, 0.6, is_call=k % 2 == 0))
        terms = OptionTerms(
            is_call=k % 2 == 0, is_inverse=False, strike=strike, index_price=index, years=years,
            carry=0.0, volatility=0.6, mark=mark, offset=offset, base_rate=0.075,
            mark_rate=0.0 if k % 2 == 0 else 0.075, trigger_fee=0.0, closing_fee=0.0003,
            liquidation_fee=0.0075, leftover_to_holder=True, is_strict=False,
        )  # fmt: skip
        texts.append(terms.to_text())
        marks.append(mark)
    contract = rng.integers(n_contracts, size=n_positions)
    units = rng.lognormal(2, 1.5, n_positions)
    needed = (np.array(marks)[contract] + 0.075 * index) * units
    columns = {name: [None] * n_positions for name in BOOK.names}
    columns |= {name: [f"{name}0000000"] * n_positions for name in ("account", "venue", "settle")}
    columns |= {name: [f"{name}0000000"] * n_positions for name in ("kind", "side", "symbol")}
    columns |= {
        "position_id": [f"{2 * 10**9 + i}" for i in range(n_positions)],
        "status": ["ok"] * n_positions, "is_stale": [False] * n_positions,
        "asset": [assets[k % len(assets)] for k in contract], "book": ["book0000000"] * n_positions,
        "direction": [-1] * n_positions, "is_inverse": [False] * n_positions,
        "option_terms": [texts[k] for k in contract], "option_units": units,
        "option_margin": needed * rng.uniform(1.3, 3.0, n_positions),
        "notional_usd": units * index,
    }  # fmt: skip
    plain = {f.name: f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in BOOK}
    written = pa.table(
        {n: pa.array(columns[n], t).cast(BOOK.field(n).type) for n, t in plain.items()}
    )
    return pa.concat_tables([book, written.cast(BOOK)]).unify_dictionaries()


def quiet_day(n_scenarios: int, n_assets: int, volatility: float = 0.04, seed: int = 2):
    """Lows, highs and lasts of a day's random walk, without gaps."""
    rng = np.random.default_rng(seed)
    shape = (n_scenarios, n_assets)
    low = np.exp(-np.abs(rng.normal(0, volatility, shape)))
    high = np.exp(np.abs(rng.normal(0, volatility, shape)))
    last = low + (high - low) * rng.random(shape)
    return _record(low, high, last, None)


def jumpy_day(n_scenarios: int, n_assets: int, share: float = 0.05, seed: int = 2) -> xr.Dataset:
    """The same, where a share of the lows is reached by one jump from half way."""
    calm = quiet_day(n_scenarios, n_assets, seed=seed)
    low = calm.low.values
    jumps = np.random.default_rng(seed + 1).random(low.shape) < share
    before = np.where(jumps, 0.5 * (1 + low), low)
    return _record(low, calm.high.values, calm["last"].values, fall_gaps(low, before))


def _record(low, high, last, gaps):
    n, n_assets = low.shape
    return make_drivers(
        low, high, last, assets=[f"asset{i:07d}" for i in range(n_assets)],
        label=[str(i) for i in range(n)], source=["drawn"] * n, gaps=gaps,
    )  # fmt: skip
