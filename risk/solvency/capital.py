"""The lines of the capital page, section by section, from what the night has measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.capital import (
    CapitalSettings,
    Exceedances,
    MarketTails,
    Section,
    not_available,
    page,
    table_of,
)
from risk.drivers import make_drivers
from risk.errors import ConfigError, DataError
from risk.liquidation import Impact, Ladders, uncounted_outcomes, uncovered_losses, walk
from risk.margin.pooling import divided_equity
from risk.scenarios.moves import Ratios, gap_rule
from risk.solvency.tails import Horizons, market_tails
from risk.solvency.windows import WindowPnl

#: Uniform moves a fund's exhaustion is looked for at: falls by the percent, rises by two.
FALLS = tuple(-move / 100 for move in range(1, 96))
RISES = tuple(move / 100 for move in range(2, 202, 2))


def capital_lines(
    settings: CapitalSettings,
    as_of: date,
    *,
    book: pa.Table,
    ladders: Ladders,
    bars: xr.Dataset,
    ten_days: WindowPnl | None,
    days: WindowPnl | None,
    backtest: Exceedances | None,
    funds: pa.Table,
    gap: float,
    horizon_days: int,
    impact: Impact | None = None,
) -> pa.Table:
    """Every section of the capital page that goes beyond the summary.

    Parameters
    ----------
    settings : CapitalSettings
    as_of : date
    book : Table
        `risk.schema.BOOK`.
    ladders : Ladders
        Their cells carry the labels ``asset`` and ``venue``.
    bars : Dataset (day, asset)
        `close`, for the test of real prices.
    ten_days, days : WindowPnl or None
        Windows of ten days over the whole history, and of the night's horizon over the latest
        year; none where the history is too short.
    backtest : Exceedances or None
    funds : Table (venue, balance_usd)
    gap : float
        Share of a move that lands as one jump.
    horizon_days : int
    impact : Impact, optional
        What closing does to the price, as the ladders were built with.

    Returns
    -------
    Table
        Schema ``risk.capital.LINES``; a section that could not be made is one line that says why.
    """
    priced = book.filter(pc.equal(book["status"], "ok"))
    tails: list[MarketTails] = []

    def measured() -> MarketTails:
        if ten_days is None:
            raise DataError("the history is too short for a year of ten-day windows")
        if not tails:
            tails.append(market_tails(ten_days, bars, _horizons(settings)))
        return tails[0]

    def covered() -> Section:
        if days is None:
            raise DataError("the history is too short for windows of the horizon")
        found = uncovered_losses(book, days.drivers, impact)
        first, last = days.day[0], days.day[-1]
        basis = f"{len(days.day)} windows of {horizon_days} days, {first} to {last}"
        return page.margin_coverage(settings, as_of, found, basis)

    wanted: dict[str, Callable[[], Section]] = {
        "internal model": lambda: page.internal_model(settings, as_of, measured(), backtest),
        "value at risk plus stressed": lambda: page.value_at_risk_plus_stressed(
            settings, as_of, measured(), backtest
        ),
        "cryptoasset exposures": lambda: page.crypto_exposures(settings, as_of, _exposures(priced)),
        "counterparty exposure": lambda: page.counterparty(
            settings, as_of, _column(priced, "notional_usd"), divided_equity(priced)
        ),
        "margin coverage": covered,
        "fund exhaustion": lambda: _exhaustion(settings, as_of, ladders, funds, gap),
        "own funds": lambda: page.own_funds_requirement(settings, as_of),
    }
    sections: list[Iterable[dict[str, object]]] = []
    for name, make in wanted.items():
        try:
            sections.append(make())
        except (ConfigError, DataError) as error:
            sections.append([not_available(name, str(error))])
    return table_of(sections)


def _horizons(settings: CapitalSettings) -> Horizons:
    majors = settings.lists.get("liquidity_majors")
    return Horizons(
        majors=frozenset(majors.members if majors else ()),
        major_days=int(settings.nearest("liquidity_horizon_majors").value),
        other_days=int(settings.nearest("liquidity_horizon_others").value),
        not_modellable_days=int(settings.nearest("non_modellable_horizon").value),
        confidence=settings.nearest("expected_shortfall_confidence").value,
        reduced_floor=settings.nearest("reduced_set_floor").value,
    )


def _column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False).astype("f8")


def _exposures(priced: pa.Table) -> list[tuple[str, str, float]]:
    """Net delta-adjusted exposure of every (asset, venue and kind), sorted."""
    labels = {name: priced[name].cast(pa.string()) for name in ("asset", "venue", "kind")} | {
        "usd": priced["exposure_usd"]
    }
    summed = (
        pa.table(labels)
        .group_by(["asset", "venue", "kind"], use_threads=False)
        .aggregate([("usd", "sum")])
        .sort_by([("asset", "ascending"), ("venue", "ascending"), ("kind", "ascending")])
    )
    return [
        (row["asset"], f"{row['venue']} {row['kind']}", row["usd_sum"])
        for row in summed.to_pylist()
    ]


def _exhaustion(
    settings: CapitalSettings, as_of: date, ladders: Ladders, funds: pa.Table, gap: float
) -> Section:
    """The smallest move of all assets together that exhausts each venue's own fund."""
    lines = Section(settings, "fund_exhaustion", as_of)
    moves = np.array([*FALLS, *RISES])
    ratio = np.repeat(1.0 + moves[:, None], len(ladders.assets), axis=1)
    path = Ratios(np.minimum(ratio, 1.0), np.maximum(ratio, 1.0), ratio)
    n = len(moves)
    drivers = make_drivers(
        *path,
        assets=list(ladders.assets),
        label=[f"{move:+.0%}" for move in moves],
        source=["uniform move"] * n,
        weight=np.full(n, 1.0 / n),
        gaps=gap_rule(path, gap),
    )
    pooled = uncounted_outcomes(ladders.cross.pools, drivers, only_deficits=True)
    deficit = walk(ladders, drivers, variables=("deficit",), pooled=pooled)["deficit"].values
    venue = np.array(ladders.cells["venue"].to_pylist(), object)
    basis = f"All assets together, {100 * gap:g} % of the move as one jump; whole percents"
    spared = []
    for row in sorted(funds.to_pylist(), key=lambda row: row["venue"]):
        name, balance = row["venue"], row["balance_usd"]
        used = deficit[:, venue == name].sum(axis=1)
        if balance is None:
            lines.add(f"fall.{name}", f"Fund of {name}", None, "%", basis,
                      note="it is in a coin without a price")  # fmt: skip
            continue
        found = False
        for word, mine in (("fall", moves < 0), ("rise", moves > 0)):
            beyond = np.flatnonzero(mine & (used > balance))
            if beyond.size:
                found = True
                lines.add(f"{word}.{name}", f"Smallest {word} that exhausts the fund of {name}",
                          100.0 * float(moves[beyond[0]]), "%", basis)  # fmt: skip
        if not found:
            spared.append(name)
    lines.add("spared", "Funds that no uniform move exhausts", float(len(spared)), "1",
              f"{basis}; from {FALLS[-1]:.0%} to {RISES[-1]:+.0%}",
              note=", ".join(spared) or None)  # fmt: skip
    return lines
