"""Backtests of value at risk and expected shortfall: exceedances, tests, scores and attribution.

P&L is gain positive, losses and forecasts are loss positive; `confidence` is the level of the
forecast, so that an exceedance is expected with probability ``1 - confidence``.
"""

from risk.backtest.attribution import PnlAttribution, pnl_attribution
from risk.backtest.coverage import (
    Binomial,
    Outcome,
    TrafficLight,
    binomial,
    exceedances,
    kupiec,
    time_until_first_failure,
    traffic_light,
)
from risk.backtest.independence import (
    Christoffersen,
    ExactOutcome,
    christoffersen,
    dynamic_quantile,
)
from risk.backtest.scores import fissler_ziegel_loss, quantile_loss
from risk.backtest.shortfall import (
    AcerbiSzekely,
    DuEscanciano,
    acerbi_szekely,
    du_escanciano,
)

__all__ = [
    "AcerbiSzekely",
    "Binomial",
    "Christoffersen",
    "DuEscanciano",
    "ExactOutcome",
    "Outcome",
    "PnlAttribution",
    "TrafficLight",
    "acerbi_szekely",
    "binomial",
    "christoffersen",
    "du_escanciano",
    "dynamic_quantile",
    "exceedances",
    "fissler_ziegel_loss",
    "kupiec",
    "pnl_attribution",
    "quantile_loss",
    "time_until_first_failure",
    "traffic_light",
]
