"""Why value at risk moved: every cause by hand, and that the causes add up."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.errors import ConfigError
from risk.explain import COMPONENTS, Day, explain, load_day
from risk.market.history import load_history
from risk.snapshot import load_snapshot
from tests.makers import AS_OF, contract, position, write_history, write_snapshot, write_venues
from tests.test_replay import FREE, make_config, move, write_bars

MOVES = [0.98, 1.01, 0.96, 1.03]  # losses of a long: 2, -1, 4 and -3 %; the VaR at 0.75 is 2 %
LEVEL = 0.75


@pytest.fixture
def make_day(tmp_path):
    """One night: positions, marks, moves and config; what is not given is one long BTC contract."""
    count = iter(range(100))

    def make(positions=None, *, mark=100_000.0, moves=MOVES, rules=None, **changes):
        folder = tmp_path / str(next(count))
        days = write_bars(folder / "history", {"BTC": [move(x) for x in moves]})
        rows = [position(f"p{n}", **row) for n, row in enumerate(positions or [{}])]
        snapshot = write_snapshot(
            folder, rows, contracts=[contract(mark_price=mark)], as_of=days[-1], venues={}
        )
        config = make_config(folder, **changes)
        write_venues(folder / "venues", {"binance": {**FREE, **(rules or {})}})
        loaded = load_snapshot(snapshot, venue_folders=[folder / "venues"])
        return Day(loaded, load_history(folder / "history", days[-1]), config)

    return make


def effects(table):
    """The effects that are not zero, by component; the table is checked on the way."""
    rows = table.to_pylist()
    assert [row["component"] for row in rows] == ["night before", *COMPONENTS]
    total = rows[-1]["value_at_risk_usd"] - rows[0]["value_at_risk_usd"]
    assert math.fsum(row["effect_usd"] for row in rows) == pytest.approx(total, abs=1e-7)
    for before, here in itertools.pairwise(rows):
        step = here["value_at_risk_usd"] - before["value_at_risk_usd"]
        assert step == pytest.approx(here["effect_usd"], abs=1e-7)
    return {row["component"]: row["effect_usd"] for row in rows if abs(row["effect_usd"]) > 1e-7}


def test_nothing_moved_nothing_explained(make_day):
    day = make_day()
    table = explain(day, day, confidence=LEVEL)
    assert effects(table) == {}
    assert table["value_at_risk_usd"].to_pylist() == [pytest.approx(2000.0)] * len(table)
    assert table["is_within_limit"].to_pylist()[-1] is True


def test_a_closed_and_an_opened_position(make_day):
    one, other = {}, {"contracts": 3.0}
    found = explain(make_day([one, other]), make_day([one]), confidence=LEVEL)
    assert effects(found) == {"positions closed": pytest.approx(-6000.0)}
    found = explain(make_day([one]), make_day([one, other]), confidence=LEVEL)
    assert effects(found) == {"positions opened": pytest.approx(6000.0)}
    detail = dict(zip(found["component"].to_pylist(), found["detail"].to_pylist(), strict=True))
    assert detail["positions opened"] == "1 positions"
    assert detail["positions closed"] == "0 positions"


def test_the_price_level(make_day):
    found = explain(make_day(), make_day(mark=110_000.0, positions=[{"entry_price": 100_000.0}]),
                    confidence=LEVEL)  # fmt: skip
    assert effects(found) == {"price level": pytest.approx(200.0)}


def test_size_with_its_collateral_is_no_collateral_moved(make_day):
    found = explain(make_day(), make_day([{"contracts": 2.0}]), confidence=LEVEL)
    assert effects(found) == {"size and leverage": pytest.approx(2000.0)}


def test_leverage_asks_for_less_collateral(make_day):
    """At 50 times leverage 2,000 are posted: the fall of 4 % loses no more than that."""
    high = {"leverage": 50.0, "position_margin": 2000.0}
    level = 0.99  # the worst of four windows: 4,000
    found = explain(make_day(), make_day([high]), confidence=level)
    assert effects(found) == {"size and leverage": pytest.approx(-2000.0)}


def test_collateral_moved(make_day):
    """The same leverage on paper, 7,000 taken out: the worst window stops at 3,000."""
    low = {"position_margin": 3000.0}
    found = explain(make_day(), make_day([low]), confidence=0.99)
    assert effects(found) == {"collateral": pytest.approx(-1000.0)}
    detail = dict(zip(found["component"].to_pylist(), found["detail"].to_pylist(), strict=True))
    assert detail["collateral"] == "1 positions"
    assert detail["size and leverage"] == "0 positions"


def test_margin_rules(make_day):
    """A liquidation fee takes what the closed position had left; nothing else changes."""
    low = {"position_margin": 3000.0}
    found = explain(
        make_day([low], rules={"leftover": "holder"}),
        make_day([low], rules={"leftover": "holder", "liquidation_fee_rate": 0.01}),
        confidence=0.99,
    )
    changed = effects(found)
    assert set(changed) == {"margin rules"}
    assert changed["margin rules"] > 0


def test_the_window_roll(make_day):
    """A day of -5 % comes, that of -2 % goes: losses -1, 4, -3 and 5 %; rank 3 of 4 is 4 %."""
    after = make_day(moves=[*MOVES, 0.95])
    found = explain(make_day(), after, confidence=LEVEL)
    assert effects(found) == {"window roll": pytest.approx(2000.0)}


def test_a_parameter(make_day):
    """Of the last two windows the worst is 4 %... at 0.75 their rank is 2 of 2."""
    fewer = make_day(scenarios={"historical": {"windows": 2, "gap": 0.0}})
    found = explain(make_day(), fewer, confidence=LEVEL)
    assert effects(found) == {"model and parameters": pytest.approx(2000.0)}
    rows = {row["component"]: row["detail"] for row in found.to_pylist()}
    assert rows["model and parameters"] == "historical.windows"


def test_the_residual_is_what_was_published_and_not_explained(make_day):
    day = make_day()
    found = explain(day, day, confidence=LEVEL, reported=(2000.0, 2015.0))
    assert effects(found) == {"residual": pytest.approx(15.0)}
    assert found["is_within_limit"].to_pylist()[-1] is True  # 1 % of 2,015
    strict = explain(day, day, confidence=LEVEL, reported=(2000.0, 2015.0), residual_limit=0.005)
    assert strict["is_within_limit"].to_pylist()[-1] is False


def test_a_position_that_changes_sides_is_closed_and_opened(make_day):
    long, short = [{}], [{"side": "short"}]
    found = explain(make_day(long), make_day(short), confidence=LEVEL)
    # All of 2,000 goes with the long; the short's losses are -2, 1, -4 and 3 %: 1 % at rank 3.
    assert effects(found) == {
        "positions closed": pytest.approx(-2000.0),
        "positions opened": pytest.approx(1000.0),
    }


def test_a_set_that_only_one_night_ran_cannot_be_explained(make_day):
    with pytest.raises(ConfigError, match="does not run the set monte_carlo; it runs historical"):
        explain(make_day(), make_day(), scenario_set="monte_carlo")


MONTE_CARLO = {"monte_carlo": {"paths": 500, "steps": 12, "block": 256}}


@pytest.fixture(scope="module")
def long_history(tmp_path_factory):
    """300 days of three assets, and a wilder day after them."""
    folder = tmp_path_factory.mktemp("long")
    write_history(folder, ["BTC", "ETH", "SOL"], n_days=300, seed=3)
    return load_history(folder, AS_OF)


def of_history(tmp_path, history, positions, **changes):
    day = history.day.values[-1].astype("M8[D]").item()
    made = write_snapshot(tmp_path / str(len(list(tmp_path.iterdir()))), positions, as_of=day)
    config = make_config(tmp_path / f"config-{len(list(tmp_path.iterdir()))}", **changes)
    return Day(load_snapshot(made), history, config)


def test_monte_carlo_keeps_its_random_numbers_and_names_volatility(long_history, tmp_path):
    """The last day moves 9 %: volatility and little else; the book is the same."""
    before_history = long_history.isel(day=slice(None, -1))
    shocked = long_history.copy(deep=True)
    shocked["close"][-1] = shocked["close"][-2] * 0.91
    shocked["low"][-1] = shocked["close"][-1] * 0.99
    book = [{"position_margin": 60_000.0}, {"symbol": "ETH/USDT:USDT", "contracts": 10.0}]
    before, after = (
        of_history(tmp_path, history, book, scenarios=MONTE_CARLO)
        for history in (before_history, shocked)
    )
    found = explain(before, after, scenario_set="monte_carlo", confidence=0.95)
    changed = effects(found)
    assert set(changed) == {"volatility", "window roll"}
    assert changed["volatility"] > 2 * abs(changed["window roll"])
    rows = {row["component"]: row["detail"] for row in found.to_pylist()}
    assert rows["volatility"].startswith("median +")


def test_filtered_windows_have_a_volatility_too(long_history, tmp_path):
    shocked = long_history.copy(deep=True)
    shocked["close"][-1] = shocked["close"][-2] * 0.91
    shocked["low"][-1] = shocked["close"][-1] * 0.99
    scenarios = {"historical": {"windows": 200, "gap": 0.3, "method": "volatility_scaled"}}
    days = [
        of_history(tmp_path, history, [{"position_margin": 60_000.0}], scenarios=scenarios)
        for history in (long_history.isel(day=slice(None, -1)), shocked)
    ]
    changed = effects(explain(*days, confidence=0.95))
    assert changed["volatility"] > 0
    assert set(changed) <= {"volatility", "window roll"}


def test_a_listing_moves_the_random_numbers_and_is_named(long_history, tmp_path):
    """SOL has no price on the night before; nobody holds it."""
    young = long_history.copy(deep=True)
    for name in ("open", "high", "low", "close"):
        young[name][-1, 2] = np.nan
    book = [{}, {"symbol": "ETH/USDT:USDT", "contracts": 10.0, "side": "short"}]
    before, after = (
        of_history(tmp_path, history, book, scenarios=MONTE_CARLO)
        for history in (young, long_history)
    )
    found = explain(before, after, scenario_set="monte_carlo", confidence=0.95)
    changed = effects(found)
    assert "listings" in changed
    assert set(changed) <= {"listings", "window roll"}
    rows = {row["component"]: row["detail"] for row in found.to_pylist()}
    assert rows["listings"] == "new: SOL"


@given(data=st.data())
@settings(max_examples=15)
def test_the_causes_add_up_to_the_change_whatever_changed(data, long_history, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("law")
    leverages, sizes = st.sampled_from([3.0, 8.0, 25.0]), st.sampled_from([0.5, 1.0, 4.0])

    def book(names):
        return [
            position(
                f"p{n}",
                symbol=f"{data.draw(st.sampled_from(['BTC', 'ETH', 'SOL']))}/USDT:USDT",
                side=data.draw(st.sampled_from(["long", "short"])),
                contracts=data.draw(sizes),
                leverage=data.draw(leverages),
            )
            for n in names
        ]

    cut = data.draw(st.integers(1, 5))
    windows = data.draw(st.sampled_from([60, 100]))
    before = of_history(
        tmp_path,
        long_history.isel(day=slice(None, -cut)),
        book(range(4)),
        scenarios={"historical": {"windows": 100, "gap": 0.3}},
    )
    after = of_history(
        tmp_path,
        long_history,
        book(range(2, 6)),
        scenarios={"historical": {"windows": windows, "gap": 0.1}},
    )
    table = explain(before, after, confidence=0.95)
    alone = [explain(day, day, confidence=0.95) for day in (before, after)]
    ends = [one["value_at_risk_usd"][0].as_py() for one in alone]
    assert table["value_at_risk_usd"][0].as_py() == ends[0]
    assert table["value_at_risk_usd"][-1].as_py() == ends[1]
    assert math.fsum(table["effect_usd"].to_pylist()) == pytest.approx(
        ends[1] - ends[0], abs=1e-9 * max(map(abs, ends))
    )
    residual = table.filter(pc.equal(table["component"], "residual"))["effect_usd"][0].as_py()
    assert abs(residual) <= 1e-9 * max(map(abs, ends))


def test_the_order_of_rows_in_the_snapshots_does_not_matter(make_day):
    one, two = make_day([{}, {"contracts": 3.0}]), make_day([{"contracts": 2.0}, {}])
    mixed = replace(
        one,
        snapshot=replace(one.snapshot, positions=one.snapshot.positions.take(pa.array([1, 0]))),
    )
    assert explain(mixed, two, confidence=LEVEL).equals(explain(one, two, confidence=LEVEL))


def test_a_day_is_loaded_from_a_config(tmp_path):
    days = write_bars(tmp_path / "history", {"BTC": [move(x) for x in MOVES]}, first=AS_OF
                      - dt.timedelta(days=len(MOVES)))  # fmt: skip
    day = load_day(make_config(tmp_path))
    assert day.snapshot.as_of == days[-1] == AS_OF
    assert explain(day, day, confidence=LEVEL)["value_at_risk_usd"][0].as_py() == pytest.approx(
        2000.0
    )


def test_a_book_that_turned_over_is_closed_and_opened(make_day):
    old, new = make_day([{}]), make_day([{}, {"contracts": 3.0}])
    only = new.snapshot.positions.filter(pc.equal(new.snapshot.positions["position_id"], "p1"))
    other = replace(new, snapshot=replace(new.snapshot, positions=only))
    assert effects(explain(old, other, confidence=LEVEL)) == {
        "positions closed": pytest.approx(-2000.0),
        "positions opened": pytest.approx(6000.0),
    }
