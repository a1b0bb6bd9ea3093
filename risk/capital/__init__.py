"""Capital rules and the adequacy of a venue's default resources.

Amounts are positive; exposures and deficits are in the reader's own unit, USD in the reports. The
Basel functions are informational: a venue is not a bank, and internal models are not allowed for
group 2 cryptoassets.
"""

from risk.capital.adequacy import ADEQUACY, adequacy, cover
from risk.capital.basel import (
    Group2Limit,
    backtest_multiplier,
    crypto_group_2a,
    crypto_group_2b,
    group_2_limit,
    internal_model_capital,
    liquidity_horizon_expected_shortfall,
)
from risk.capital.counterparty import (
    CounterpartyExposure,
    exposure_at_default,
    margined_add_on,
)
from risk.capital.crypto import group_2a_capital
from risk.capital.lines import LINES, Section, not_available, table_of
from risk.capital.market import (
    MarketTails,
    has_real_prices,
    model_capital,
    non_modellable_add_on,
    plus_factor,
    stressed_expected_shortfall,
    value_at_risk_capital,
)
from risk.capital.page import Exceedances
from risk.capital.settings import CapitalSettings, DatedList, DatedValue, Rule, load_capital

__all__ = [
    "ADEQUACY",
    "LINES",
    "CapitalSettings",
    "CounterpartyExposure",
    "DatedList",
    "DatedValue",
    "Exceedances",
    "Group2Limit",
    "MarketTails",
    "Rule",
    "Section",
    "adequacy",
    "backtest_multiplier",
    "cover",
    "crypto_group_2a",
    "crypto_group_2b",
    "exposure_at_default",
    "group_2_limit",
    "group_2a_capital",
    "has_real_prices",
    "internal_model_capital",
    "liquidity_horizon_expected_shortfall",
    "load_capital",
    "margined_add_on",
    "model_capital",
    "non_modellable_add_on",
    "not_available",
    "plus_factor",
    "stressed_expected_shortfall",
    "table_of",
    "value_at_risk_capital",
]
