"""The sample: same bytes for the same arguments, lawful files, a book a risk officer believes."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from risk.errors import ConfigError, DataError
from risk.margin.book import build_book
from risk.market.history import load_history, universe
from risk.sample import write_sample
from risk.sample.tiers import synthetic_tiers
from risk.sample.venues import quarterly_expiries
from risk.snapshot import Snapshot, load_snapshot

VENUE_RULES = Path(__file__).parents[1] / "configs" / "venues"
N_POSITIONS, SEED = 20_000, 11
REAL_DAYS = [(dt.date(2022, 11, 7), "2023-08-01"), (dt.date(2025, 6, 29), "2024-10-24")]


@dataclass(frozen=True)
class Sample:
    """A sample as the later stages see it, and its priced positions as NumPy columns."""

    folder: Path
    snapshot: Snapshot
    book: pa.Table

    def priced(self, name: str) -> np.ndarray:
        """A column of the positions that are `ok`."""
        return self.book.filter(pc.equal(self.book["status"], "ok"))[name].to_numpy(
            zero_copy_only=False
        )

    def share_by(self, label: str) -> dict[str, float]:
        """Share of the priced notional by a label."""
        values, notional = self.priced(label).astype(str), self.priced("notional_usd")
        return {
            str(value): notional[values == value].sum() / notional.sum()
            for value in np.unique(values)
        }


def read_sample(folder: Path) -> Sample:
    snapshot = load_snapshot(folder)
    book = build_book(
        snapshot.positions,
        snapshot.contracts,
        snapshot.tiers,
        snapshot.venues,
        as_of=snapshot.as_of,
        accounts=snapshot.accounts,
    )
    return Sample(folder, snapshot, book)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    out = tmp_path_factory.mktemp("sample")
    folder = write_sample(out, positions=N_POSITIONS, seed=SEED, venue_rules=VENUE_RULES)
    return read_sample(folder)


@pytest.fixture(scope="module")
def bars(sample: Sample) -> dict[str, np.ndarray]:
    table = pq.read_table(sample.folder.parent / "history" / "prices.parquet")
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


@pytest.fixture(scope="module")
def market_data() -> Path:
    folder = os.environ.get("BULKHEAD_MARKET_DATA")
    if not folder:
        pytest.skip("BULKHEAD_MARKET_DATA is not set: no real prices to build a sample on")
    return Path(folder)


@pytest.fixture(scope="module", params=REAL_DAYS, ids=lambda day: str(day[0]))
def real_sample(
    request: pytest.FixtureRequest, market_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sample, str]:
    as_of, published = request.param
    folder = write_sample(
        tmp_path_factory.mktemp("real"),
        positions=N_POSITIONS,
        seed=SEED,
        as_of=as_of,
        history=market_data / "ohlcv_daily.parquet",
        tiers=market_data / "leverage_tiers_binance.parquet",
        venue_rules=VENUE_RULES,
    )
    return read_sample(folder), published


def write_bars(path: Path, n_days: int = 90, last: str = "2024-03-31") -> pa.Table:
    """A small real-looking history of two assets: gentle waves around 100 and 10."""
    days = np.datetime64(last, "D") - np.arange(n_days)[::-1]
    wave = 1.0 + 0.02 * np.sin(np.arange(n_days) / 3.0)
    tables = []
    for asset, price in (("BTC", 100.0), ("SOL", 10.0)):
        tables.append(
            pa.table(
                {
                    "ts": pa.array(days.astype("datetime64[ms]")).cast(pa.timestamp("ms", "UTC")),
                    "asset": [asset] * n_days,
                    "open": price * wave,
                    "high": price * wave * 1.01,
                    "low": price * wave * 0.99,
                    "close": price * wave,
                    "volume": np.full(n_days, 1e6),
                }
            )
        )
    table = pa.concat_tables(tables)
    pq.write_table(table, path)
    return table


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What is written


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_sample(tmp_path / name, positions=700, seed=3, venue_rules=VENUE_RULES)
    first, second = files_of(tmp_path / "first"), files_of(tmp_path / "second")
    assert first == second
    assert set(first) >= {
        f"as_of=2025-06-29/{name}"
        for name in ("positions.parquet", "contracts.parquet", "tiers.parquet", "venues/okx.yaml")
    }


def test_another_seed_gives_another_book_and_another_market(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_sample(tmp_path / str(seed), positions=50, seed=seed)
    first, second = files_of(tmp_path / "1"), files_of(tmp_path / "2")
    assert first["history/prices.parquet"] != second["history/prices.parquet"]
    name = "as_of=2025-06-29/positions.parquet"
    assert first[name] != second[name]


def test_the_number_of_positions_changes_no_price(tmp_path: Path) -> None:
    for n in (5, 500):
        write_sample(tmp_path / str(n), positions=n, seed=4)
    few, many = files_of(tmp_path / "5"), files_of(tmp_path / "500")
    for name in ("history/prices.parquet", "as_of=2025-06-29/contracts.parquet"):
        assert few[name] == many[name]


@pytest.mark.parametrize("n", [1, 2, 37])
def test_tiny_samples_load(tmp_path: Path, n: int) -> None:
    folder = write_sample(tmp_path, positions=n, seed=n, venue_rules=VENUE_RULES)
    snapshot = load_snapshot(folder)
    assert (snapshot.positions.num_rows, snapshot.quarantine.num_rows) == (n, 0)


def test_no_row_is_quarantined_and_every_file_says_that_it_is_synthetic(sample: Sample) -> None:
    assert sample.snapshot.quarantine.num_rows == 0
    assert sample.snapshot.positions.num_rows == N_POSITIONS
    for path in [*sample.folder.glob("*.parquet"), *sample.folder.parent.glob("history/*")]:
        metadata = pq.read_schema(path).metadata
        assert metadata[b"bulkhead.synthetic"] == b"true"
        assert b"SYNTHETIC" in metadata[b"bulkhead.source"]


def test_only_options_are_unpriced(sample: Sample) -> None:
    unpriced = sample.book.filter(pc.equal(sample.book["status"], "unpriced"))
    reasons = set(unpriced["reason"].to_pylist())
    assert all("option" in reason for reason in reasons)
    assert unpriced.num_rows / N_POSITIONS < 0.015


def test_marks_are_of_the_close_of_the_as_of(sample: Sample) -> None:
    contracts = sample.snapshot.contracts
    stamps = contracts["mark_timestamp"].to_numpy().astype("datetime64[D]")
    assert (stamps == np.datetime64("2025-06-29")).all()
    n_stale = sample.book.filter(sample.book["is_stale"]).num_rows
    assert 0 < n_stale < 0.02 * N_POSITIONS
    futures = contracts.filter(pc.equal(contracts["type"].cast("string"), "future"))
    expiry = futures["expiry"].drop_null()
    assert pc.min(expiry).as_py() == dt.datetime(2025, 9, 26, 8, tzinfo=dt.UTC)


def test_index_prices_are_the_last_closes_of_the_history(
    sample: Sample, bars: dict[str, np.ndarray]
) -> None:
    is_last = bars["ts"] == bars["ts"].max()
    close = dict(zip(bars["asset"][is_last], bars["close"][is_last], strict=True))
    contracts = sample.snapshot.contracts
    swaps = contracts.filter(pc.equal(contracts["type"], "swap"))
    index = swaps["index_price"].to_numpy()
    assert index.tolist() == [close[base] for base in swaps["base"].to_pylist()]
    assert np.abs(swaps["mark_price"].to_numpy() / index - 1.0).max() < 0.002


# The book


def test_bitcoin_and_ether_are_about_half_of_the_notional(sample: Sample) -> None:
    share = sample.share_by("asset")
    assert len(share) >= 20
    assert 0.42 < share["BTC"] + share["ETH"] < 0.62
    assert share["BTC"] > share["ETH"] > max(v for k, v in share.items() if k not in {"BTC", "ETH"})


def test_longs_are_somewhat_more_than_shorts(sample: Sample) -> None:
    longs = np.mean(sample.priced("direction") > 0)
    assert 0.53 < longs < 0.60


def test_linear_perpetuals_are_most_of_the_book_and_no_kind_is_missing(sample: Sample) -> None:
    share = sample.share_by("kind")
    assert 0.55 < share["linear_perpetual"] < 0.80
    for kind in ("inverse_perpetual", "inverse_future", "linear_future"):
        assert share[kind] > 0.02
    assert set(sample.share_by("settle")) >= {"USDT", "USDC", "BTC", "ETH", "SOL", "XRP"}
    assert len(sample.share_by("venue")) == 7
    assert len(sample.share_by("book")) == 5


def test_few_accounts_hold_much(sample: Sample) -> None:
    account, notional = sample.priced("account").astype(str), sample.priced("notional_usd")
    _, row = np.unique(account, return_inverse=True)
    held = np.sort(np.bincount(row, weights=notional))[::-1]
    top_percent = held[: len(held) // 100].sum() / held.sum()
    assert 0.35 < top_percent < 0.75
    assert held[0] / held.sum() < 0.15
    assert np.bincount(row).max() > 10


def test_no_account_holds_the_same_side_of_a_contract_twice(sample: Sample) -> None:
    positions = sample.snapshot.positions
    keys = ["account", "venue", "symbol", "side"]
    assert positions.group_by(keys).aggregate([]).num_rows == positions.num_rows


def test_an_account_is_on_one_venue_and_in_one_book(sample: Sample) -> None:
    positions = sample.snapshot.positions
    places = positions.group_by(["account", "venue", "book"]).aggregate([]).num_rows
    assert places == pc.count_distinct(positions["account"]).as_py()


def test_leverage_stays_within_the_tier_of_the_position(sample: Sample) -> None:
    tiers, book = sample.snapshot.tiers, sample.book
    tables: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in tiers.select(["venue", "symbol", "min_notional", "max_leverage"]).to_pylist():
        tables.setdefault((row["venue"], row["symbol"]), []).append(
            (row["min_notional"], row["max_leverage"])
        )
    ids = sample.snapshot.positions["position_id"]
    assert book["position_id"].equals(ids)
    rows = zip(
        book["venue"].to_pylist(),
        book["symbol"].to_pylist(),
        book["notional"].to_pylist(),
        sample.snapshot.positions["leverage"].to_pylist(),
        strict=True,
    )
    checked = 0
    for venue, symbol, notional, leverage in rows:
        if notional is None or leverage is None:
            continue
        allowed = [largest for floor, largest in tables[venue, symbol] if notional >= floor][-1]
        assert leverage <= allowed, (venue, symbol, notional)
        checked += 1
    # Options have no leverage.
    n_options = sample.book.filter(is_option(sample.book)).num_rows
    assert checked > 0.98 * (N_POSITIONS - n_options)


def is_option(book: pa.Table) -> pa.ChunkedArray:
    return pc.equal(book["kind"].cast("string"), "option")


def test_collateral_covers_the_initial_margin(sample: Sample) -> None:
    """But for options: what a written one requires moves with the mark, unlike what was posted."""
    ok = sample.book.filter(pc.equal(sample.book["status"], "ok"))
    ok = ok.filter(pc.invert(is_option(ok)))
    collateral = pc.subtract(ok["equity"], ok["unrealized_pnl"]).to_numpy()
    assert (collateral >= ok["initial_margin"].to_numpy() * (1.0 - 1e-9)).all()
    assert 0.05 < np.mean(collateral > 1.05 * ok["initial_margin"].to_numpy()) < 0.2


def test_a_small_share_is_liquidatable_at_the_mark(sample: Sample) -> None:
    n = sample.book.filter(pc.equal(sample.book["status"], "liquidatable")).num_rows
    assert 0.0004 < n / N_POSITIONS < 0.002


def test_stops_lie_between_the_mark_and_the_liquidation_price(sample: Sample) -> None:
    assert 0.07 < sample.snapshot.positions["stop_loss_price"].is_valid().to_numpy().mean() < 0.09
    stop = sample.priced("stop_trigger")
    has_stop = np.isfinite(stop)
    assert 0.07 < has_stop.mean() < 0.09
    direction, trigger = sample.priced("direction"), sample.priced("trigger")
    assert (direction * (1.0 - stop) > 0)[has_stop].all()
    assert not (direction * (stop - trigger) <= 0)[has_stop].any()


@pytest.mark.parametrize(("fall", "low", "high"), [(0.05, 0.01, 0.09), (0.10, 0.08, 0.25)])
def test_a_fall_liquidates_a_plausible_share_of_the_longs(
    sample: Sample, fall: float, low: float, high: float
) -> None:
    is_long = sample.priced("direction") > 0
    notional, trigger = sample.priced("notional_usd")[is_long], sample.priced("trigger")[is_long]
    assert low < notional[trigger >= 1.0 - fall].sum() / notional.sum() < high


def test_accounts_of_cross_rows_have_a_balance(sample: Sample) -> None:
    positions, accounts = sample.snapshot.positions, sample.snapshot.accounts
    cross = positions.filter(pc.equal(positions["margin_mode"], "cross"))
    assert 0.003 * N_POSITIONS < cross.num_rows < 0.02 * N_POSITIONS
    assert accounts is not None
    assert set(cross["account"].to_pylist()) == set(accounts["account"].to_pylist())
    assert pc.min(accounts["balance"]).as_py() > 0
    # An account is cross-margined with all its positions but options, and some hold several.
    isolated = positions.filter(pc.equal(positions["margin_mode"], "isolated"))
    mixed = isolated.filter(pc.is_in(isolated["account"], pc.unique(cross["account"])))
    assert all("-C" in symbol or "-P" in symbol for symbol in mixed["symbol"].to_pylist())
    assert cross.num_rows > len(pc.unique(cross["account"]))
    # Some pools stand on coins that none of their positions settles in.
    settled = {
        (row["account"], row["symbol"].rpartition(":")[2].partition("-")[0])
        for row in cross.to_pylist()
    }
    foreign = [
        row
        for row in accounts.to_pylist()
        if row["currency"] in ("BTC", "ETH") and (row["account"], row["currency"]) not in settled
    ]
    assert foreign
    assert all(row["haircut"] > 0 for row in foreign)


def test_the_samples_pools_live_at_the_mark_and_share_their_equity(sample: Sample) -> None:
    snapshot = sample.snapshot
    pools = sample.book.filter(sample.book["pool_holdings"].is_valid())
    cross = snapshot.positions.filter(pc.equal(snapshot.positions["margin_mode"], "cross"))
    assert pools["position_id"].to_pylist() == cross["position_id"].to_pylist()
    assert set(pools["status"].to_pylist()) == {"ok"}
    ratio = pools["margin_ratio"].to_numpy(zero_copy_only=False)
    assert ((ratio > 0) & (ratio < 1)).all()


# Tiers and contracts


@pytest.mark.parametrize("price", [1.0, 108_000.0, 0.15])
@pytest.mark.parametrize("max_leverage", [125.0, 75.0, 25.0])
def test_maintenance_is_continuous_at_every_tier(price: float, max_leverage: float) -> None:
    ladder = synthetic_tiers(3e7, max_leverage, price=price)
    rate, amount = ladder["maintenance_margin_rate"], ladder["maintenance_amount"]
    edge = ladder["max_notional"][:-1]
    assert (ladder["min_notional"][1:] == edge).all()
    assert (np.diff(ladder["max_notional"]) > 0).all()
    below, above = rate[:-1] * edge - amount[:-1], rate[1:] * edge - amount[1:]
    np.testing.assert_allclose(below, above, rtol=1e-12)
    # Initial margin must exceed maintenance, or a new position would be liquidated at once.
    assert (1.0 / ladder["max_leverage"] > rate).all()


def test_expiries_are_the_last_fridays_of_quarters() -> None:
    for day, expected in [
        (dt.date(2022, 11, 7), ["221230", "230331"]),
        (dt.date(2025, 6, 29), ["250926", "251226"]),
        (dt.date(2024, 12, 24), ["250328", "250627"]),
    ]:
        assert [f"{expiry:%y%m%d}" for expiry in quarterly_expiries(day)] == expected


# The synthetic market


def test_bars_hold_their_open_and_close(bars: dict[str, np.ndarray]) -> None:
    assert (bars["low"] <= np.minimum(bars["open"], bars["close"])).all()
    assert (bars["high"] >= np.maximum(bars["open"], bars["close"])).all()
    assert (bars["low"] > 0).all()
    assert (bars["high"] > bars["low"]).mean() > 0.999


def closes(bars: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {asset: bars["close"][bars["asset"] == asset] for asset in np.unique(bars["asset"])}


def test_assets_start_at_different_days_and_trade_every_day_since(
    bars: dict[str, np.ndarray],
) -> None:
    n_days = {asset: len(close) for asset, close in closes(bars).items()}
    assert max(n_days.values()) >= 1_500
    assert len(set(n_days.values())) >= 4
    for asset, n in n_days.items():
        days = bars["ts"][bars["asset"] == asset].astype("datetime64[D]")
        assert days[-1] - days[0] == np.timedelta64(n - 1, "D")


def test_returns_have_fat_tails_clusters_and_move_together(bars: dict[str, np.ndarray]) -> None:
    full = {asset: close for asset, close in closes(bars).items() if len(close) >= 1_500}
    returns = np.array([np.diff(np.log(close)) for close in full.values()])
    scaled = returns - returns.mean(axis=1, keepdims=True)
    kurtosis = (scaled**4).mean(axis=1) / (scaled**2).mean(axis=1) ** 2
    assert kurtosis.min() > 4.5
    correlation = np.corrcoef(returns)[list(full).index("BTC")]
    assert correlation.min() > 0.4
    assert 0.7 < correlation[list(full).index("ETH")] < 0.95
    size = np.abs(scaled)
    clustering = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in size]
    assert np.mean(clustering) > 0.08
    assert np.abs(np.mean([np.corrcoef(r[:-1], r[1:])[0, 1] for r in returns])) < 0.06
    # Common crashes: days on which nearly every asset loses a tenth.
    assert ((returns < np.log(0.9)).mean(axis=0) > 0.8).sum() >= 3


def test_lows_reach_below_closes_as_in_a_crash(bars: dict[str, np.ndarray]) -> None:
    btc = bars["asset"] == "BTC"
    before = bars["close"][btc][:-1]
    low, close = bars["low"][btc][1:] / before, bars["close"][btc][1:] / before
    worst = np.argsort(low)[:5]
    assert low[worst].max() < 0.92
    assert (close[worst] - low[worst]).max() > 0.02


def test_the_history_loads_as_the_market_stage_reads_it(sample: Sample) -> None:
    history = load_history(sample.folder.parent / "history", sample.snapshot.as_of)
    assets = universe(history, sample.snapshot.as_of)
    assert assets == sorted(set(sample.snapshot.contracts["base"].to_pylist()))


# Real prices and tiers


def test_a_real_day_is_lawful_and_marked(real_sample: tuple[Sample, str]) -> None:
    sample, published = real_sample
    assert sample.snapshot.quarantine.num_rows == 0
    text = " ".join(sample.snapshot.notes)
    assert f"Binance USD-M brackets of {published}" in text
    assert "inverse tiers SYNTHETIC" in text
    assert "SYNTHETIC sample book" in text
    metadata = pq.read_schema(sample.folder.parent / "history" / "prices.parquet").metadata
    assert metadata[b"bulkhead.synthetic"] == b"false"
    n = sample.book.filter(pc.equal(sample.book["status"], "liquidatable")).num_rows
    assert 0.0004 < n / N_POSITIONS < 0.002
    is_long = sample.priced("direction") > 0
    notional, trigger = sample.priced("notional_usd")[is_long], sample.priced("trigger")[is_long]
    assert 0.05 < notional[trigger >= 0.9].sum() / notional.sum() < 0.25


def test_a_real_day_has_the_assets_and_closes_of_that_day(
    real_sample: tuple[Sample, str],
) -> None:
    sample, _ = real_sample
    table = pq.read_table(sample.folder.parent / "history" / "prices.parquet")
    day = pc.equal(table["ts"].cast(pa.date32()), pa.scalar(sample.snapshot.as_of))
    today = table.filter(day)
    close = dict(zip(today["asset"].to_pylist(), today["close"].to_pylist(), strict=True))
    contracts = sample.snapshot.contracts
    swaps = contracts.filter(pc.equal(contracts["type"], "swap"))
    marks = dict(zip(swaps["base"].to_pylist(), swaps["mark_price"].to_pylist(), strict=True))
    assert set(marks) == set(close)
    assert marks == pytest.approx(close, rel=1e-6)


def test_linear_tiers_of_every_venue_are_the_published_ones(
    real_sample: tuple[Sample, str], market_data: Path
) -> None:
    sample, published = real_sample
    source = pq.read_table(market_data / "leverage_tiers_binance.parquet")
    day = pc.equal(source["as_of"].cast(pa.date32()), pa.scalar(dt.date.fromisoformat(published)))
    bitcoin = source.filter(pc.and_(day, pc.equal(source["symbol"], "BTC/USDT:USDT")))
    expected = bitcoin["max_notional"].to_pylist()
    tiers = sample.snapshot.tiers
    for venue, symbol in [("bybit", "BTC/USDT:USDT"), ("deribit", "BTC/USDC:USDC")]:
        mine = pc.and_(pc.equal(tiers["venue"], venue), pc.equal(tiers["symbol"], symbol))
        assert tiers.filter(mine)["max_notional"].to_pylist() == expected


def test_nothing_after_the_as_of_reaches_the_book(tmp_path: Path) -> None:
    table = write_bars(tmp_path / "all.parquet")
    as_of = dt.date(2024, 3, 11)
    until = pc.less_equal(table["ts"].cast(pa.date32()), pa.scalar(as_of))
    pq.write_table(table.filter(until), tmp_path / "past.parquet")
    for name in ("all", "past"):
        write_sample(
            tmp_path / name,
            positions=300,
            seed=5,
            as_of=as_of,
            history=tmp_path / f"{name}.parquet",
        )
    everything, past = files_of(tmp_path / "all"), files_of(tmp_path / "past")
    name = "as_of=2024-03-11/positions.parquet"
    assert everything[name] == past[name]
    assert everything["history/prices.parquet"] != past["history/prices.parquet"]


def test_the_as_of_defaults_to_the_last_day_of_the_history(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.parquet")
    folder = write_sample(tmp_path / "out", positions=9, seed=5, history=tmp_path / "bars.parquet")
    assert folder.name == "as_of=2024-03-31"


def test_an_asset_without_brackets_has_synthetic_tiers_and_says_so(tmp_path: Path) -> None:
    ladder = synthetic_tiers(1e8, 50.0)
    n = len(ladder["tier"])
    brackets = {
        "as_of": pa.array([dt.datetime(2024, 5, 1)] * n, pa.timestamp("ms", "UTC")),
        "symbol": ["BTC/USDT:USDT"] * n,
        **ladder,
    }
    pq.write_table(pa.table(brackets), tmp_path / "tiers.parquet")
    write_bars(tmp_path / "bars.parquet")
    folder = write_sample(
        tmp_path / "out",
        positions=40,
        seed=5,
        history=tmp_path / "bars.parquet",
        tiers=tmp_path / "tiers.parquet",
    )
    source = pq.read_schema(folder / "tiers.parquet").metadata[b"bulkhead.source"].decode()
    assert source == (
        "Binance USD-M brackets of 2024-05-01 for linear contracts of every venue; "
        "inverse tiers SYNTHETIC; SYNTHETIC for SOL"
    )


# What is refused


def test_a_sample_needs_a_position_and_a_seed_from_zero_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="positions is 0; a sample needs at least 1"):
        write_sample(tmp_path, positions=0, seed=1)
    with pytest.raises(ConfigError, match="seed is -1"):
        write_sample(tmp_path, positions=1, seed=-1)
    assert list(tmp_path.iterdir()) == []


def test_an_as_of_outside_the_history_is_refused(tmp_path: Path) -> None:
    bars = tmp_path / "bars.parquet"
    write_bars(bars)
    late, early = dt.date(2024, 4, 1), dt.date(2024, 1, 20)
    with pytest.raises(ConfigError, match="as_of 2024-04-01 is after the last day"):
        write_sample(tmp_path / "out", positions=1, seed=1, as_of=late, history=bars)
    with pytest.raises(ConfigError, match="no asset has a close on 2024-01-20 and 60 days"):
        write_sample(tmp_path / "out", positions=1, seed=1, as_of=early, history=bars)


def test_a_damaged_or_incomplete_input_is_named(tmp_path: Path) -> None:
    path, out = tmp_path / "bars.parquet", tmp_path / "out"
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        write_sample(out, positions=1, seed=1, history=path)
    table = write_bars(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"bars\.parquet: cannot be read as Parquet"):
        write_sample(out, positions=1, seed=1, history=path)
    pq.write_table(table.rename_columns(["time", *table.column_names[1:]]), path)
    with pytest.raises(DataError, match="missing column ts"):
        write_sample(out, positions=1, seed=1, history=path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    with pytest.raises(DataError, match="more than one bar of BTC on 2024-01-02"):
        write_sample(out, positions=1, seed=1, history=path)
    low = pc.multiply(table["low"], -1.0)
    pq.write_table(table.set_column(table.column_names.index("low"), "low", low), path)
    with pytest.raises(DataError, match="0 < low <= close <= high"):
        write_sample(out, positions=1, seed=1, history=path)
    with pytest.raises(DataError, match="missing column as_of, symbol"):
        write_sample(out, positions=1, seed=1, tiers=path)


def test_a_venue_without_rules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no margin rules .*okx\.yaml"):
        write_sample(tmp_path / "out", positions=1, seed=1, venue_rules=tmp_path)


def test_a_real_snapshot_is_never_overwritten(tmp_path: Path) -> None:
    folder = write_sample(tmp_path, positions=3, seed=1)
    table = pq.read_table(folder / "positions.parquet")
    pq.write_table(table.replace_schema_metadata(None), folder / "positions.parquet")
    with pytest.raises(ConfigError, match="holds a snapshot that is no sample"):
        write_sample(tmp_path, positions=3, seed=1)


def test_prices_that_another_snapshot_stands_on_are_never_overwritten(tmp_path: Path) -> None:
    write_sample(tmp_path, positions=3, seed=1)
    write_sample(tmp_path, positions=4, seed=2)
    with pytest.raises(ConfigError, match="which as_of=2025-06-29 stands on"):
        write_sample(tmp_path, positions=3, seed=2, as_of=dt.date(2025, 6, 30))
