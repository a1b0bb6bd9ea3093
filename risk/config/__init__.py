"""The config of a night: every number a person may change, read from one YAML file.

Relative paths are taken from the directory the command is started in, not from the config's own
folder, so that one config serves several workplaces.
"""

from risk.config.night import NOT_IDENTITY, Config, config_digest, config_identity
from risk.config.read import load_config
from risk.config.scenarios import (
    Carry,
    Grid,
    Historical,
    MonteCarlo,
    Peg,
    Reverse,
    Scenarios,
    Stress,
)
from risk.config.sections import (
    Accounts,
    Cascade,
    Cross,
    Execution,
    Impact,
    Liquidation,
    Margin,
    Measures,
    Schedule,
    ScheduledBacktest,
    Tls,
    WhatIf,
)

__all__ = [
    "NOT_IDENTITY",
    "Accounts",
    "Carry",
    "Cascade",
    "Config",
    "Cross",
    "Execution",
    "Grid",
    "Historical",
    "Impact",
    "Liquidation",
    "Margin",
    "Measures",
    "MonteCarlo",
    "Peg",
    "Reverse",
    "Scenarios",
    "Schedule",
    "ScheduledBacktest",
    "Stress",
    "Tls",
    "WhatIf",
    "config_digest",
    "config_identity",
    "load_config",
]
