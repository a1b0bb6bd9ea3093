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
from risk.capital.settings import CapitalSettings, DatedValue, load_capital

__all__ = [
    "ADEQUACY",
    "CapitalSettings",
    "DatedValue",
    "Group2Limit",
    "adequacy",
    "backtest_multiplier",
    "cover",
    "crypto_group_2a",
    "crypto_group_2b",
    "group_2_limit",
    "internal_model_capital",
    "liquidity_horizon_expected_shortfall",
    "load_capital",
]
