"""The sections of the officer's report that a run has only if its config asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from risk.config import Config
from risk.findings.adequacy import margin_adequacy
from risk.findings.branch import what_if
from risk.findings.carry import carry_section
from risk.findings.explained import explained_section
from risk.findings.fit import calibration
from risk.findings.moves import moves
from risk.findings.options import options_section
from risk.findings.pools import cross_section, pools_section
from risk.findings.prices import prices_section
from risk.findings.rounds import cascade_section
from risk.findings.tail import parts_section, settled_section
from risk.findings.watch import watch_section
from risk.findings.waterfall import waterfall_section
from risk.reports import Section

#: One function per section, in the order of the page; None where the run does not have it.
SECTIONS: tuple[Callable[[Path, Config], Section | None], ...] = (
    parts_section,
    settled_section,
    cascade_section,
    moves,
    waterfall_section,
    margin_adequacy,
    pools_section,
    cross_section,
    options_section,
    carry_section,
    watch_section,
    explained_section,
    what_if,
    prices_section,
    calibration,
)


def sections(folder: Path, config: Config) -> tuple[Section, ...]:
    """Every section the run in `folder` has something for."""
    found = (section(folder, config) for section in SECTIONS)
    return tuple(section for section in found if section is not None)
