"""Account pools: positions that share collateral, through joint paths."""

from risk.liquidation.cross.book import (
    CrossBook,
    add_pools,
    among_shown,
    leg_outcomes,
    read_pools,
    shown_drivers,
)
from risk.liquidation.cross.kept import check_outcomes, load_outcomes, load_results, save_outcomes
from risk.liquidation.cross.lives import live_pools, pool_outcomes, uncounted_outcomes
from risk.liquidation.cross.outcomes import (
    AMOUNTS,
    COUNTS,
    PoolOutcomes,
    PoolResults,
    join_outcomes,
    put_outcomes,
    take_outcomes,
)
from risk.liquidation.cross.reach import find_slopes
from risk.liquidation.cross.tails import leg_probabilities, measure_legs

__all__ = [
    "AMOUNTS",
    "COUNTS",
    "CrossBook",
    "PoolOutcomes",
    "PoolResults",
    "add_pools",
    "among_shown",
    "check_outcomes",
    "find_slopes",
    "join_outcomes",
    "leg_outcomes",
    "leg_probabilities",
    "live_pools",
    "load_outcomes",
    "load_results",
    "measure_legs",
    "pool_outcomes",
    "put_outcomes",
    "read_pools",
    "save_outcomes",
    "shown_drivers",
    "take_outcomes",
    "uncounted_outcomes",
]
