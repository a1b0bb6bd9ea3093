"""Checks of the inputs, each with its number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from risk.reports import QualityCheck

#: Proxied assets named one by one.
_N_PROXIED = 8


def quality(
    book: pa.Table, market: Mapping[str, Any], snapshot: Mapping[str, Any]
) -> tuple[QualityCheck, ...]:
    """Checks of the inputs, each with its number."""

    def judge(name: str, count: int, good: str, bad: str) -> QualityCheck:
        return QualityCheck(name, "warn" if count else "pass", bad if count else good, count)

    kinds = market["price_kinds"]
    stale = int(pc.sum(book["is_stale"]).as_py() or 0)
    return (
        QualityCheck(
            "Price kind",
            "pass" if kinds == ["mark"] else "warn",
            "the history is made of mark prices"
            if kinds == ["mark"]
            else f"the history is made of {', '.join(kinds)} prices; positions are closed at marks",
        ),
        judge(
            "Bad prints",
            market["n_bad_prints"],
            "no wick beyond the filter's bound",
            "wicks clipped to the filter's bound",
        ),
        judge(
            "Holes in the history",
            market["n_holes"],
            "no day is missing between an asset's first and last",
            "days missing between an asset's first and last; windows across them are proxied",
        ),
        judge(
            "Incomplete days",
            market["n_incomplete"],
            "every day has all its bars",
            "days lack some of their finer bars",
        ),
        judge(
            "Proxied assets",
            len(market["proxied"]),
            "every asset has its own history in every window",
            "assets moved by beta and a resampled residual where their own history is missing",
        ),
        *proxied(book, market),
        judge(
            "Stale marks",
            stale,
            "every mark was taken at the close",
            "positions whose mark is older than the staleness limit",
        ),
        judge(
            "Stress assets not in the universe",
            market["n_stress_assets_ignored"],
            "every shocked asset has a price",
            "shocks on assets without a price that day, ignored",
        ),
    )


def proxied(book: pa.Table, market: Mapping[str, Any]) -> list[QualityCheck]:
    """The proxied assets that matter most, each with its share of the notional."""
    priced = book.select(["asset", "notional_usd"]).filter(pc.equal(book["status"], "ok"))
    held = (
        pa.table({"asset": priced["asset"].cast(pa.string()), "usd": priced["notional_usd"]})
        .group_by("asset", use_threads=False)
        .aggregate([("usd", "sum")])
    )
    notional = dict(zip(held["asset"].to_pylist(), held["usd_sum"].to_pylist(), strict=True))
    total = sum(notional.values())
    share = {name: notional.get(name, 0.0) / total for name in market["proxied"]} if total else {}
    largest = sorted(share, key=lambda name: (-share[name], name))[:_N_PROXIED]
    windows = market["proxied_share"]
    return [
        QualityCheck(
            f"{name}, proxied: share of the notional",
            "warn" if share[name] >= 0.01 else "pass",
            "in every window"
            if windows.get(name, 0.0) >= 1
            else "in the windows before it had prices, or across its holes"
            if name in windows
            else "its Monte Carlo parameters only: too young for its own",
            round(100 * share[name], 2),
            "%",
        )
        for name in largest
    ]
