"""How the scenarios of a night depend on each other, for the intervals of its measures."""

from __future__ import annotations

from risk.config import Config
from risk.measures import Design, Overlapping, mirrored_pairs, replications
from risk.scenarios.draws import TILE


def sampling_designs(config: Config) -> dict[str, Design]:
    """The design of every sampled set whose scenarios are not independent."""
    found: dict[str, Design] = {}
    replayed, drawn = config.scenarios.historical, config.scenarios.monte_carlo
    if replayed and 24 * config.horizon_days > replayed.step_hours:
        found |= dict.fromkeys(replayed.sets, Overlapping())
    if drawn and drawn.sampling == "antithetic":
        found["monte_carlo"] = mirrored_pairs(drawn.paths, drawn.block, TILE)
    if drawn and drawn.sampling == "sobol":
        found["monte_carlo"] = replications(drawn.paths, drawn.block)
    return found
