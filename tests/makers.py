"""Tiny snapshots and histories for tests: every default is valid, every test changes one thing.

Numbers are round so that a reader can check them by hand: BTC at 100,000, ten times leverage.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from risk.schema import ACCOUNTS, CONTRACTS, HISTORY, POSITIONS, TIERS

AS_OF = dt.date(2025, 6, 29)
MARKS = {"BTC": 100_000.0, "ETH": 2_500.0, "SOL": 150.0}
RULES: dict[str, Any] = {
    "from": dt.date(2019, 1, 1),
    "source": "made for a test",
    "maintenance_basis": "mark",
    "trigger_includes_closing_fee": False,
    "closing_fee_rate": 0.0005,
    "closing_fee_price": "test",
    "liquidation_fee_rate": 0.0125,
    "leftover": "holder",
    "partial": "none",
    "boundary": "at",
    "insurance_fund": {"currency": "USDT", "balance": 1e9},
}
#: (lower bound in USD, maintenance rate, largest leverage) of the default tier table.
TIER_STEPS = (
    (0.0, 0.004, 125.0),
    (50_000.0, 0.005, 100.0),
    (600_000.0, 0.01, 50.0),
    (10_000_000.0, 0.025, 20.0),
    (80_000_000.0, 0.05, 10.0),
)
LAST_CAP_USD = 1_000_000_000.0


def position(position_id: str = "p1", **changes: Any) -> dict[str, Any]:
    """One long BTC contract, isolated, entered at the mark with a tenth of its value posted."""
    symbol = changes.get("symbol", "BTC/USDT:USDT")
    terms = contract(symbol)
    row = {
        "position_id": position_id,
        "account": "a1",
        "book": "main",
        "venue": "binance",
        "symbol": symbol,
        "side": "long",
        "contracts": 1.0,
        "entry_price": terms["mark_price"],
        "margin_mode": "isolated",
        "leverage": 10.0,
        "stop_loss_price": None,
        **changes,
    }
    if "position_margin" not in row:
        value = row["contracts"] * terms["contract_size"]
        if terms["type"] != "option":
            value *= row["entry_price"] ** (1 if terms["linear"] else -1)
        row["position_margin"] = 0.1 * value
    return row


def contract(symbol: str = "BTC/USDT:USDT", **changes: Any) -> dict[str, Any]:
    """The terms a ccxt symbol spells out; inverse when it settles in its base."""
    pair, _, rest = symbol.partition(":")
    base, _, quote = pair.partition("/")
    settle, *dated = rest.split("-")
    is_option = len(dated) == 3
    is_linear = settle == quote
    mark = MARKS.get(base, 10.0)
    expiry = dt.datetime.strptime(dated[0], "%y%m%d") if dated else None
    index = changes.get("mark_price")
    return {
        "venue": "binance",
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "settle": settle,
        "type": "option" if is_option else "future" if dated else "swap",
        "linear": is_linear,
        "contract_size": 1.0 if is_linear or is_option else 100.0,
        "expiry": expiry and expiry.replace(hour=8, tzinfo=dt.UTC),
        "strike": float(dated[1]) if is_option else None,
        "option_type": {"C": "call", "P": "put"}[dated[2]] if is_option else None,
        "mark_price": mark,
        "mark_timestamp": dt.datetime.combine(AS_OF, dt.time(23, 59, 59), dt.UTC),
        "index_price": index if index is not None and index > 0 and not is_option else mark,
        "funding_rate": None if dated else 0.0001,
        "funding_interval_hours": None if dated else 8.0,
        "mark_iv": 0.5 if is_option else None,
        "volume_24h_usd": 1e9,
        **changes,
    }


def tier_table(
    symbol: str = "BTC/USDT:USDT",
    venue: str = "binance",
    steps: Sequence[tuple[float, float, float]] | None = None,
    cap: float | None = None,
) -> list[dict[str, Any]]:
    """Continuous tiers of one contract; the default bounds are in coin where it is inverse."""
    terms = contract(symbol)
    unit = 1.0 if steps is not None or terms["linear"] else terms["mark_price"]
    steps = TIER_STEPS if steps is None else steps
    floors = [floor / unit for floor, _, _ in steps]
    caps = [*floors[1:], (LAST_CAP_USD if cap is None else cap) / unit]
    rows: list[dict[str, Any]] = []
    amount = rate_before = 0.0
    for n, (floor, cap_n, (_, rate, leverage)) in enumerate(
        zip(floors, caps, steps, strict=True), 1
    ):
        amount += floor * (rate - rate_before) if n > 1 else 0.0
        rate_before = rate
        rows.append(
            {
                "venue": venue,
                "symbol": symbol,
                "tier": n,
                "min_notional": floor,
                "max_notional": cap_n,
                "maintenance_margin_rate": rate,
                "maintenance_amount": amount,
                "max_leverage": leverage,
            }
        )
    return rows


def write_snapshot(
    folder: Path,
    positions: Iterable[Mapping[str, Any]] | None = None,
    contracts: Iterable[Mapping[str, Any]] | None = None,
    tiers: Iterable[Mapping[str, Any]] | None = None,
    accounts: Iterable[Mapping[str, Any]] | None = None,
    venues: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    as_of: dt.date = AS_OF,
    is_synthetic: bool = True,
    source: str = "made for a test",
) -> Path:
    """Write ``folder/as_of=<date>`` and return it; what is not given follows from the positions.

    Positions are dicts that `position` completes (ids p1, p2, ... unless given) unless they are
    whole rows, contracts and
    tiers are whole rows (`contract`, `tier_table`), venues are changes to `RULES` by venue;
    ``venues={}`` writes none.
    """
    path = Path(folder) / f"as_of={as_of}"
    path.mkdir(parents=True, exist_ok=True)
    given = enumerate([{}] if positions is None else positions, 1)
    rows = [
        dict(row)
        if set(row) == set(POSITIONS.names)
        else position(**{"position_id": f"p{n}", **row})
        for n, row in given
    ]
    if contracts is None:
        mark_at = dt.datetime.combine(as_of, dt.time(23, 59, 59), dt.UTC)
        listed = sorted({(row["venue"], row["symbol"]) for row in rows})
        contracts = [
            contract(symbol, venue=venue, mark_timestamp=mark_at) for venue, symbol in listed
        ]
    contracts = [dict(row) for row in contracts]
    if tiers is None:
        tiers = [
            tier
            for row in contracts
            if row["type"] != "option"
            for tier in tier_table(row["symbol"], row["venue"])
        ]
    if venues is None:
        venues = {row["venue"]: {} for row in contracts}
    tables = {
        "positions": (rows, POSITIONS),
        "contracts": (contracts, CONTRACTS),
        "tiers": (list(tiers), TIERS),
    }
    if accounts is not None:
        tables["accounts"] = (list(accounts), ACCOUNTS)
    metadata = {
        "bulkhead.synthetic": "true" if is_synthetic else "false",
        "bulkhead.source": source,
    }
    for name, (table_rows, schema) in tables.items():
        table = pa.Table.from_pylist([dict(row) for row in table_rows], schema=nullable(schema))
        pq.write_table(table.replace_schema_metadata(metadata), path / f"{name}.parquet")
    write_venues(path / "venues", venues)
    return path


def write_venues(folder: Path, venues: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write one YAML per venue: `RULES` with the changes given; returns the folder."""
    if venues:
        Path(folder).mkdir(parents=True, exist_ok=True)
    for venue, changes in venues.items():
        content = {"venue": venue, "rules": [{**RULES, **changes}]}
        (Path(folder) / f"{venue}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return Path(folder)


def write_history(
    folder: Path,
    assets: Sequence[str] = ("BTC", "ETH"),
    n_days: int = 60,
    *,
    last_day: dt.date = AS_OF,
    seed: int = 1,
    closes: Mapping[str, Sequence[float]] | None = None,
    is_synthetic: bool = True,
    source: str = "made for a test",
) -> Path:
    """Write ``folder/prices.parquet``: daily bars that end on `last_day`; returns the folder.

    Without `closes` the log closes are a seeded random walk (3 % a day, half of it common) that
    ends at `MARKS`; lows and highs lie beyond open and close.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if closes is not None:
        assets, n_days = list(closes), len(next(iter(closes.values())))
    common = rng.standard_normal(n_days)
    midnight = dt.datetime.combine(last_day, dt.time(), dt.UTC)
    days = [midnight - dt.timedelta(days=n) for n in reversed(range(n_days))]
    rows = []
    for asset in assets:
        steps = 0.03 * (0.7 * common + 0.7 * rng.standard_normal(n_days))
        walk = np.cumsum(steps)
        close = MARKS.get(asset, 10.0) * np.exp(walk - walk[-1])
        if closes is not None:
            close = np.asarray(closes[asset], float)
        open_ = np.r_[close[0], close[:-1]]
        wick = 0.01 * np.abs(rng.standard_normal((2, n_days)))
        high = np.maximum(open_, close) * (1 + wick[0])
        low = np.minimum(open_, close) * (1 - wick[1])
        bars = zip(days, open_, high, low, close, strict=True)
        rows += [
            {"ts": ts, "asset": asset, "open": o, "high": h, "low": lo, "close": c, "volume": 1e4}
            for ts, o, h, lo, c in bars
        ]
    metadata = {
        "bulkhead.synthetic": "true" if is_synthetic else "false",
        "bulkhead.source": source,
    }
    table = pa.Table.from_pylist(rows, schema=HISTORY).replace_schema_metadata(metadata)
    pq.write_table(table, path / "prices.parquet")
    return path


def nullable(schema: pa.Schema) -> pa.Schema:
    """The same columns, nulls allowed: files carry bad rows, the engine's tables do not."""
    return pa.schema([field.with_nullable(True) for field in schema])


def keep_isolated(folder):
    """Take the cross-margined positions out of a snapshot."""
    path = folder / "positions.parquet"
    positions = pq.read_table(path)
    is_isolated = pc.equal(positions["margin_mode"].cast("string"), "isolated")
    pq.write_table(positions.filter(is_isolated), path)


def drop_options(folder):
    """Take the option positions out of a snapshot."""
    path = folder / "positions.parquet"
    positions = pq.read_table(path)
    is_option = pc.match_substring_regex(positions["symbol"].cast("string"), "-[CP]$")
    pq.write_table(positions.filter(pc.invert(is_option)), path)
