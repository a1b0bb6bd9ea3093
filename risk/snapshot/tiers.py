"""Checks of maintenance tiers: they must meet, rise, and carry the deduction that joins them.

The closed form of the liquidation price holds only where maintenance is continuous and convex in
the notional, so a table that is not stops the load instead of pricing a book wrongly.
"""

from __future__ import annotations

import polars as pl

from risk.errors import DataError
from risk.schema import USD_EQUIVALENTS

#: Share of the maintenance at a tier's lower bound by which its deduction may miss the recursion.
#: Published tables are exact; a millionth leaves room for amounts kept in single precision and
#: moves a trigger by less than a millionth of the maintenance rate.
RELATIVE_TOLERANCE = 1e-6
#: Two rounded amounts meet in the recursion: a cent each where they are in dollars, eight decimals
#: of a coin elsewhere.
CENT, SATOSHI = 0.01, 1e-8

_KEY = ["venue", "symbol"]
_NUMBERS = ["min_notional", "maintenance_margin_rate", "maintenance_amount", "max_leverage"]


def check_tiers(tiers: pl.DataFrame) -> pl.DataFrame:
    """Return the tiers sorted by venue, symbol and tier, or name the first that is wrong.

    Parameters
    ----------
    tiers : DataFrame (tier row,)
        Columns of `risk.schema.TIERS` plus `file` and `row`. A null upper bound means none.

    Returns
    -------
    DataFrame (tier row,)
        The same rows, sorted; open upper bounds are infinite.

    Raises
    ------
    DataError
        If a value is missing or out of range, tiers are not numbered from 1, leave a gap, overlap,
        their rates fall, or a `maintenance_amount` breaks
        ``c_n = c_{n-1} + floor_n * (m_n - m_{n-1})``.
    """
    missing = pl.any_horizontal(pl.col(*_KEY, "tier", *_NUMBERS).is_null())
    _refuse(tiers, missing, "has a null; fill it in")
    tiers = tiers.with_columns(pl.col("max_notional").fill_null(float("inf")))
    _refuse(
        tiers,
        ~pl.all_horizontal(pl.col(_NUMBERS).is_finite() & (pl.col(_NUMBERS) >= 0))
        | pl.col("max_notional").is_nan(),
        "has a number that is negative or not finite; correct it",
    )
    _refuse(
        tiers,
        (pl.col("maintenance_margin_rate") >= 1) | (pl.col("max_leverage") == 0),
        "needs a maintenance rate below 1 and a leverage above 0; correct it",
    )
    tiers = tiers.sort(*_KEY, "tier", "file", "row")
    before = tiers.with_columns(
        pl.int_range(1, pl.len() + 1).over(_KEY).alias("expected"),
        *(
            pl.col(name).shift().over(_KEY).alias(f"{name}_before")
            for name in ("max_notional", "maintenance_margin_rate", "maintenance_amount")
        ),
    ).with_columns(pl.col("max_notional_before").fill_null(0.0))
    _refuse(
        before,
        pl.col("tier") != pl.col("expected"),
        "should be tier {}; number the tiers 1, 2, 3, ... without repeats",
        "expected",
    )
    _refuse(
        before,
        ~(pl.col("max_notional") > pl.col("min_notional")),
        "ends at {} but starts at {}; correct the bounds",
        "max_notional",
        "min_notional",
    )
    bounds = ("min_notional", "max_notional_before")
    starts = "starts at {} but should start at {}, where the tier before ends (zero for the first)"
    gap = pl.col("min_notional") > pl.col("max_notional_before")
    _refuse(before, gap, f"leaves a gap: it {starts}; make them meet", *bounds)
    overlap = pl.col("min_notional") < pl.col("max_notional_before")
    _refuse(before, overlap, f"overlaps: it {starts}; make them meet", *bounds)
    _refuse(
        before,
        pl.col("maintenance_margin_rate") < pl.col("maintenance_margin_rate_before"),
        "has rate {}, below {} of the tier before; rates must not fall",
        "maintenance_margin_rate",
        "maintenance_margin_rate_before",
    )
    _check_amounts(before)
    return tiers


def _check_amounts(tiers: pl.DataFrame) -> None:
    rate, floor = pl.col("maintenance_margin_rate"), pl.col("min_notional")
    step = floor * (rate - pl.col("maintenance_margin_rate_before"))
    due = (pl.col("maintenance_amount_before") + step).fill_null(0.0)
    settle = pl.col("symbol").str.extract(r":([^-]+)", 1)
    rounding = pl.when(settle.is_in(list(USD_EQUIVALENTS))).then(CENT).otherwise(SATOSHI)
    slack = pl.max_horizontal(RELATIVE_TOLERANCE * floor * rate, rounding)
    _refuse(
        tiers.with_columns(due=due),
        (pl.col("maintenance_amount") - due).abs() > slack,
        "has maintenance_amount {} but {} makes maintenance continuous; correct one of the tiers",
        "maintenance_amount",
        "due",
    )


def _refuse(tiers: pl.DataFrame, wrong: pl.Expr, text: str, *shown: str) -> None:
    found = tiers.filter(wrong)
    if found.is_empty():
        return
    first = found.row(0, named=True)
    values = [f"{first[name]:.12g}" for name in shown]
    raise DataError(
        f"{first['file']}: row {first['row']}: {first['venue']} {first['symbol']} "
        f"tier {first['tier']} {text.format(*values)}"
    )
