"""Blocks: how a run is split, spread over workers, resumed and proved. Knows no finance."""

from risk.engine.blocks import Block, plan_blocks
from risk.engine.clients import Workers, check_scheduler, import_ahead
from risk.engine.executor import run_blocks
from risk.engine.parts import run_parts

__all__ = [
    "Block",
    "Workers",
    "check_scheduler",
    "import_ahead",
    "plan_blocks",
    "run_blocks",
    "run_parts",
]
