"""What a backtest writes: one row per night and level, the causes, the counts and the tests."""

from __future__ import annotations

import pyarrow as pa

_DAY, _TEXT, _NUMBER, _COUNT = pa.date32(), pa.string(), pa.float64(), pa.int64()


def _schema(*columns: tuple) -> pa.Schema:
    """Columns as (name, type, unit, meaning[, "null"])."""
    return pa.schema(
        pa.field(name, kind, nullable=bool(null), metadata={"unit": unit, "meaning": meaning})
        for name, kind, unit, meaning, *null in columns
    )


_NIGHT = (
    ("night", _DAY, "", "day whose close the forecast is made at"),
    ("day", _DAY, "", "the day after, which the forecast is about"),
    ("scenario_set", _TEXT, "", "which scenarios made the forecast"),
)

DAYS = _schema(
    *_NIGHT,
    ("confidence", _NUMBER, "1", "level of the forecast"),
    ("value_at_risk_usd", _NUMBER, "USD", "forecast; null: nothing could be priced", "null"),
    ("expected_shortfall_usd", _NUMBER, "USD", "forecast; null likewise", "null"),
    ("pnl_usd", _NUMBER, "USD", "hypothetical P&L of the day; null: a price is missing", "null"),
    ("pit", _NUMBER, "1", "forecast probability of a P&L at most this one", "null"),
    ("is_exceedance", pa.bool_(), "", "loss above the forecast, or either is missing"),
    ("n_scenarios", _COUNT, "1", "scenarios behind the forecast"),
    ("priced_share", _NUMBER, "1", "share of the book's notional with a price that night"),
    ("cause", _TEXT, "", "what made the loss, or what is missing", "null"),
)

CAUSES = _schema(
    *_NIGHT[:2],
    ("level", _TEXT, "", "asset or cell"),
    ("rank", _COUNT, "1", "1 lost most"),
    ("label", _TEXT, "", "which asset or cell"),
    ("pnl_usd", _NUMBER, "USD", "its part of the day's P&L"),
    ("share", _NUMBER, "1", "of the day's loss; above 1 where others gained", "null"),
    ("liquidations", _COUNT, "1", "positions liquidated"),
    ("low", _NUMBER, "1", "the asset's lowest price that day, over the close before"),
    ("high", _NUMBER, "1", "its highest"),
    ("last", _NUMBER, "1", "its last"),
)

#: One row per night on which a priced asset of the book is proxied in some window.
ATTRIBUTION = _schema(
    *_NIGHT[:2],
    ("proxied", _TEXT, "", "assets without a price of their own in some window of the forecast"),
    ("proxied_share", _NUMBER, "1", "their share of the priced notional"),
    ("hypothetical_usd", _NUMBER, "USD", "P&L of the book under the day's real moves"),
    ("theoretical_usd", _NUMBER, "USD", "the same, proxied assets moving as the proxy rule says"),
    ("proxied_hypothetical_usd", _NUMBER, "USD", "of the positions in proxied assets alone"),
    ("proxied_theoretical_usd", _NUMBER, "USD", "likewise"),
)

LIQUIDATIONS = _schema(
    *_NIGHT,
    ("n_positions", _COUNT, "1", "positions with a forecast and a whole day of prices"),
    ("expected", _NUMBER, "1", "sum of their liquidation probabilities", "null"),
    ("realised", _COUNT, "1", "how many the day's prices liquidate: marks where there are some"),
    ("realised_daily", _COUNT, "1", "how many the history's daily low and high liquidate"),
    ("only_daily", _COUNT, "1", "liquidated by the daily bar and not by the marks"),
    ("only_marks", _COUNT, "1", "liquidated by the marks and not by the daily bar"),
    ("variance", _NUMBER, "1", "of the forecast count, over the scenarios", "null"),
    ("forecast_p99", _NUMBER, "1", "99 % quantile of the forecast count", "null"),
    ("expected_deficit_usd", _NUMBER, "USD", "mean deficit of the scenarios", "null"),
    ("deficit_usd", _NUMBER, "USD", "deficit of the day under the gap rule", "null"),
)

#: Position-days of one night by forecast probability; summed over nights it is CALIBRATION.
BUCKETS = _schema(
    _NIGHT[0],
    _NIGHT[2],
    ("lower", _NUMBER, "1", "forecast probability, included"),
    ("upper", _NUMBER, "1", "excluded, but for 1"),
    ("n_position_days", _COUNT, "1", "positions"),
    ("expected", _NUMBER, "1", "sum of their probabilities"),
    ("variance", _NUMBER, "1", "of their number, over the scenarios"),
    ("realised", _COUNT, "1", "liquidated"),
)

CALIBRATION = _schema(
    *(
        (field.name, field.type, field.metadata[b"unit"].decode(), field.metadata[b"meaning"])
        for field in list(BUCKETS)[1:]
    ),
    ("n_days", _COUNT, "1", "days with such positions"),
    ("z_score", _NUMBER, "1", "of realised less expected, days being the observations", "null"),
    ("p_value", _NUMBER, "1", "two-sided, normal", "null"),
)

TESTS = _schema(
    ("scenario_set", _TEXT, "", ""),
    ("confidence", _NUMBER, "1", "null: a test of counts", "null"),
    ("test", _TEXT, "", "name in risk.backtest, with its part after a dot"),
    ("statistic", _NUMBER, "1", "null: not available, see the note", "null"),
    ("p_value", _NUMBER, "1", "null: the test has none", "null"),
    ("exact_p_value", _NUMBER, "1", "for this number of days", "null"),
    ("zone", _TEXT, "", "of the traffic light and of P&L attribution", "null"),
    ("n_days", _COUNT, "1", "days the test could use"),
    ("note", _TEXT, "", "why there is no number", "null"),
)
