"""Limits by level pick their facts, stand where the worst stands, and know each group's change."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from risk.findings.exposures import exposures
from risk.reports.limits import Limit, evaluate_limits, first_change, group_changes, load_limits

ROOT = Path(__file__).resolve().parents[1]
GROUPS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.none() | st.floats(0, 100), min_size=1, max_size=8
)


def limit(scope, measure="leverage", **changes):
    rules = {"name": "n", "warning": 10.0, "breach": 20.0, "owner": "o"} | changes
    return Limit(measure=measure, scope=scope, **rules)


@given(GROUPS, st.sampled_from(["above", "below"]))
def test_a_limit_on_every_group_stands_where_the_worst_of_them_stands(values, side):
    levels = {"warning": 10.0, "breach": 20.0} if side == "above" else {"warning": 20, "breach": 10}
    facts = {f"size.book.{name}": value for name, value in values.items()}
    every = limit({"book": "*"}, "size", side=side, **levels)
    (found,) = evaluate_limits((every,), facts)
    alone = [limit({"book": name}, "size", side=side, **levels) for name in values]
    each = [state for one in alone for state in evaluate_limits((one,), facts)]
    order = ["breach", "warning", "within", "not evaluated"]
    assert found.state == min((state.state for state in each), key=order.index)
    assert found.n_breach == sum(state.state == "breach" for state in each)
    assert found.n_warning == sum(state.state == "warning" for state in each)
    assert found.n_groups == sum(value is not None for value in values.values())
    if found.value is not None:
        known = [value for value in values.values() if value is not None]
        assert found.value == (max(known) if side == "above" else min(known))
        assert values[found.group] == found.value


def test_a_scope_picks_neither_another_level_nor_a_longer_id():
    facts = {"leverage.book.a": 1.0, "leverage.asset.a": 99.0, "leverage.book.a.note": 99.0}
    (found,) = evaluate_limits((limit({"book": "*"}),), facts)
    assert (found.value, found.group, found.n_groups) == (1.0, "a", 1)


def test_a_group_whose_name_is_no_plain_id_is_found():
    odd = "BTC / desk 2"
    named = limit({"book": odd})
    (fact_id,) = named.watched({})
    assert fact_id.startswith("leverage.book.BTC-desk-2~")
    assert named.where == f"book {odd}"


def test_leverage_without_equity_breaches_and_a_missing_one_is_not_evaluated():
    (found,) = evaluate_limits((limit({"book": "*"}),), {"leverage.book.a": None})
    assert (found.state, found.value) == ("breach", math.inf)
    (none,) = evaluate_limits((limit({"book": "a"}),), {})
    assert (none.state, none.value) == ("not evaluated", None)


def test_each_group_is_new_continuing_or_cured_on_its_own():
    every = limit({"book": "*"})
    before = {"leverage.book.a": 25.0, "leverage.book.b": 25.0, "leverage.book.c": 1.0}
    after = {"leverage.book.a": 25.0, "leverage.book.b": 1.0, "leverage.book.c": 12.0}
    found = group_changes(every, before, after)
    assert found == {
        "leverage.book.a": "continuing",
        "leverage.book.b": "cured",
        "leverage.book.c": "new",
    }
    assert first_change(found) == "new"
    assert first_change({}) is None


def test_a_group_that_is_gone_is_cured_only_where_the_list_reaches_below_the_levels():
    every = limit({"account": "*"})
    before = {"leverage.account.a": 25.0, "leverage.account.b": 22.0}
    reaches = group_changes(every, before, {"leverage.account.b": 3.0})
    assert reaches == {"leverage.account.a": "cured", "leverage.account.b": "cured"}
    cut = group_changes(every, before, {"leverage.account.c": 30.0})
    assert cut["leverage.account.a"] == "lost"


def test_the_inventory_covers_what_an_officer_must_limit():
    kept = load_limits(ROOT / "configs/limits.yaml")
    watched = {(one.measure, one.level) for one in kept}
    assert {
        ("share_of_collateral.value_at_risk", None),
        ("share_of_collateral.expected_shortfall", None),
        ("expected_shortfall_share", "book"),
        ("share_of_collateral.stress.worst_loss", None),
        ("fund_use", "venue"),
        ("stress_fund_use", "venue"),
        ("deficit_share.cover_2", None),
        ("notional_share", "account"),
        ("notional_share", "asset"),
        ("herfindahl.account", None),
        ("leverage", "account"),
        ("leverage", "book"),
        ("leverage", "asset"),
        ("market_exposure_share", "book"),
        ("correlated_loss_share", "total"),
    } <= watched
    assert all(one.owner for one in kept)


def made_up_book(rng, n):
    """Positions with every column the spread needs."""
    names = {
        "venue": rng.choice(["v1", "v2"], n),
        "asset": rng.choice(["BTC", "ETH", "SOL"], n),
        "book": rng.choice(["x", "y"], n),
        # One account far below a thousandth of the whole.
        "account": np.where(np.arange(n) == 0, "tiny", rng.choice(["p", "q", "r"], n)),
        "kind": rng.choice(["linear_perpetual", "option"], n),
        "status": np.where(np.arange(n) % 7 == 3, "unpriced", "ok"),
    }
    columns = {key: pa.array(values.tolist()).dictionary_encode() for key, values in names.items()}
    columns["status"] = columns["status"].dictionary_decode()
    notional = rng.uniform(1e3, 1e5, n)
    notional[0] = 1.0
    exposure = notional * rng.uniform(-1, 1, n)
    exposure[0] = 0.5
    columns |= {
        "notional_usd": pa.array(notional),
        "exposure_usd": pa.array(exposure),
        "equity_usd": pa.array(notional * rng.uniform(0.01, 1, n)),
    }
    return pa.table(columns)


def test_the_spread_of_the_book_is_what_counting_position_by_position_gives():
    book = made_up_book(np.random.default_rng(4), 200)
    beta = {"BTC": 1.0, "ETH": 1.3, "SOL": 1.8}
    sigma = {"BTC": 0.02, "ETH": 0.03, "SOL": 0.05}
    calibration = xr.Dataset(
        {"beta": ("asset", list(beta.values())), "volatility": ("asset", list(sigma.values()))},
        coords={"asset": list(beta)},
    )
    found = {(row["level"], row["group"]): row for row in exposures(book, calibration).to_pylist()}
    rows = [row for row in book.to_pylist() if row["status"] == "ok"]
    size = [abs(r["exposure_usd"]) if r["kind"] == "option" else r["notional_usd"] for r in rows]
    whole = math.fsum(size)
    for level in ("total", "venue", "asset", "book", "account"):
        names = ["all" if level == "total" else row[level] for row in rows]
        shares = {
            g: math.fsum(s for s, n in zip(size, names, strict=True) if n == g) / whole
            for g in set(names)
        }
        for group, share in shares.items():
            if level == "account" and share < 0.001:
                assert (level, group) not in found
                continue
            mine = [(row, s) for row, s, n in zip(rows, size, names, strict=True) if n == group]
            net = {}
            for row, _ in mine:
                net[row["asset"]] = net.get(row["asset"], 0.0) + row["exposure_usd"]
            one = found[level, group]
            assert one["n_positions"] == len(mine)
            assert one["n_groups"] == len(shares)
            assert one["herfindahl"] == pytest.approx(math.fsum(s**2 for s in shares.values()))
            assert one["notional_usd"] == pytest.approx(math.fsum(s for _, s in mine))
            equity = math.fsum(row["equity_usd"] for row, _ in mine)
            assert one["equity_usd"] == pytest.approx(equity)
            market = math.fsum(amount * beta[asset] for asset, amount in net.items())
            assert one["market_exposure_usd"] == pytest.approx(market)
            loss = math.fsum(abs(amount) * sigma[asset] for asset, amount in net.items())
            assert one["correlated_loss_usd"] == pytest.approx(loss)
    assert ("account", "tiny") not in found


def test_an_asset_without_a_beta_leaves_only_its_holders_without_a_market_exposure():
    book = made_up_book(np.random.default_rng(4), 200)
    calibration = xr.Dataset(
        {"beta": ("asset", [1.0, 1.3]), "volatility": ("asset", [0.02, 0.03])},
        coords={"asset": ["BTC", "ETH"]},
    )
    found = {(r["level"], r["group"]): r for r in exposures(book, calibration).to_pylist()}
    assert found["asset", "SOL"]["market_exposure_usd"] is None
    assert found["asset", "BTC"]["market_exposure_usd"] is not None
    assert found["total", "all"]["correlated_loss_usd"] is None


def test_an_empty_book_has_a_total_and_nothing_else():
    book = made_up_book(np.random.default_rng(4), 8).slice(0, 0)
    rows = exposures(book, None).to_pylist()
    assert [(row["level"], row["notional_usd"]) for row in rows] == [("total", 0.0)]
