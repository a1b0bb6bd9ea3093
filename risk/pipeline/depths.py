"""Stresses that cut the depth of the market: in them closing costs more than on other days."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from risk.block import THIN, thin_name
from risk.cube import load_depths
from risk.liquidation import Impact, build_ladders
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night


def impact_groups(
    night: Night, name: str, index: np.ndarray, *, cascade: bool = True
) -> list[tuple[Impact | None, np.ndarray]]:
    """Scenarios of a set by what closing does to the price in them.

    Parameters
    ----------
    night : Night
    name : str
        Scenario set.
    index : ndarray of int (scenario,)
        Ascending.
    cascade : bool
        As for `read_impact`.

    Returns
    -------
    list of (Impact or None, ndarray of int)
        One group unless the set holds stresses of other depths and the night has price impact.
    """
    impact = read_impact(night, cascade=cascade)
    if name != "stress" or impact is None:
        return [(impact, index)]
    depth = load_depths(_stresses(night))[index]
    return [(impact.at_depth(float(share)), index[depth == share]) for share in np.unique(depth)]


def write_thin_ladders(night: Night, book: pa.Table, assets: list[str]) -> None:
    """The book's ladders at every other depth that a stress of the night leaves."""
    config, impact = night.config, read_impact(night)
    if "stress" not in config.scenarios.names or impact is None:
        return
    for share in np.unique(load_depths(_stresses(night))):
        if share != 1:
            ladders = build_ladders(
                book, assets, config.cells, config.max_cells, impact=impact.at_depth(float(share))
            )
            ladders.save(night.folder / THIN / thin_name(share))


def _stresses(night: Night) -> Path:
    return night.folder / "scenarios" / "stress.zarr"
