"""What the measure stage computes beside the measures, where the config asks for it."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from risk.pipeline.adequacy import adequacy
from risk.pipeline.attribute import attribute
from risk.pipeline.before import compare_with_before
from risk.pipeline.branch import compare_branch
from risk.pipeline.explore import explore
from risk.pipeline.greeks import write_greeks
from risk.pipeline.night import Night
from risk.pipeline.pools import write_contrast, write_pools
from risk.pipeline.regulate import regulate
from risk.pipeline.rounds import compare_rounds
from risk.pipeline.waterfall import settle_deficits

#: Called in this order with the night, its book and its assets; each writes its own artifact.
EXTRAS: tuple[Callable[[Night, pa.Table, list[str]], None], ...] = (
    compare_with_before,
    attribute,
    explore,
    write_greeks,
    regulate,
    compare_rounds,
    settle_deficits,
    adequacy,
    compare_branch,
    write_pools,
    write_contrast,
)
