"""The report's section on the prices behind the historical windows, and on the gap rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from risk.book import read_book
from risk.config import Config
from risk.reports import Fact, Section
from risk.reports.view import slug

#: Assets listed, by notional.
_N_ASSETS = 40

#: Wild days listed, by length of bar and then by share.
_N_EPISODES = 20

BAR_WORDS = {"5m": "five minutes", "1h": "an hour", "1d": "a day"}


def prices_section(folder: Path, config: Config) -> Section | None:
    """What every asset's windows are made of, and the gap rule; None without windows."""
    if config.scenarios.historical is None:
        return None
    notes = json.loads((folder / "market.json").read_text(encoding="utf-8"))
    held = _notional(folder)
    total = sum(held.values())
    facts = [
        Fact("prices.gap", 100 * float(notes["gap"]), "%", "share that lands as one jump", 0),
        Fact("prices.n_windows", notes["n_windows"], "1", "historical windows", 0),
        Fact("prices.n_bad_prints", _sum(notes, "n_bad_prints"), "1", "wicks clipped", 0),
        Fact("prices.n_holes", _sum(notes, "n_holes"), "1", "bars missing", 0),
        Fact(
            "prices.proxied_notional",
            100 * sum(held.get(a, 0.0) for a in notes["proxied"]) / total if total else None,
            "%",
            "notional in assets that are proxied in some window or model",
            2,
        ),
    ]
    rows = []
    for name in sorted(notes["by_asset"], key=lambda a: (-held.get(a, 0.0), a))[:_N_ASSETS]:
        of = notes["by_asset"][name]
        key = f"prices.asset.{slug(name)}"
        share = 100 * held.get(name, 0.0) / total if total else None
        facts += [
            Fact(f"{key}.notional", share, "%", f"{name}, share of the notional", 2),
            Fact(f"{key}.proxied", 100 * notes["proxied_share"].get(name, 0.0), "%", "windows", 1),
            *(
                Fact(f"{key}.{count}", of[count], "1", f"{name}, bars", 0)
                for count in ("n_bad_prints", "n_holes", "n_incomplete")
            ),
        ]
        rows.append((name, of["price_kind"], name in notes["short_history"], key))
    found, episodes = _episodes(notes["gap_episodes"])
    return Section(
        name="prices",
        title="Prices behind the windows, and the gap rule",
        nav="Prices",
        facts=tuple(facts + found),
        context={
            "rows": rows,
            "episodes": episodes,
            "rule": notes["gap_rule"],
            "bars": BAR_WORDS[notes["bars"]],
        },
    )


def _sum(notes: dict[str, Any], key: str) -> int:
    return sum(of[key] for of in notes["by_asset"].values())


def _notional(folder: Path) -> dict[str, float]:
    """Notional of the priced positions by asset, USD."""
    book = read_book(folder, ["asset", "notional_usd", "status"])
    priced = book.filter(pc.equal(book["status"], "ok"))
    asset = priced["asset"].cast("string")
    sums = (
        priced.set_column(priced.schema.get_field_index("asset"), "asset", asset)
        .group_by("asset", use_threads=False)
        .aggregate([("notional_usd", "sum")])
    )
    names, values = (sums[name].to_pylist() for name in ("asset", "notional_usd_sum"))
    return dict(zip(names, values, strict=True))


def _episodes(found: list[dict[str, Any]]) -> tuple[list[Fact], list[dict[str, Any]]]:
    """Facts and names of the wild days, finest bars first."""
    facts, rows = [], []
    order = ["5m", "1h"]
    ranked = sorted(found, key=lambda one: (order.index(one["interval"]), -one["share"]))
    for place, one in enumerate(ranked[:_N_EPISODES]):
        key = f"prices.wild.{place}"
        scope = f"{one['asset']}, bars of {BAR_WORDS[one['interval']]}"
        facts += [
            Fact(f"{key}.{name}", 100 * one["side"] * one[name], "%", scope, 1)
            for name in ("excursion", "worst_bar")
        ]
        facts += [
            Fact(f"{key}.{name}", 100 * one[name], "%", scope, 0)
            for name in ("share", "median_share")
        ]
        facts.append(Fact(f"{key}.n_days", one["n_days"], "1", scope, 0))
        rows.append(
            {
                "key": key,
                "asset": one["asset"],
                "day": one["day"],
                "bars": BAR_WORDS[one["interval"]],
                "kind": one["price_kind"],
            }
        )
    return facts, rows
