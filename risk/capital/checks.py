"""What every capital formula asks of its numbers: finite, whole where counted, not below zero.

A requirement made of a missing number would look like any other, so that it is refused instead.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def check_amounts(**amounts: Any) -> None:
    """Amounts, one or many each: finite and not below zero.

    Raises
    ------
    ValueError
        That names the first one that is not.
    """
    for name, value in amounts.items():
        array = np.asarray(value, "f8")
        if not (np.isfinite(array) & (array >= 0.0)).all():
            raise ValueError(f"{name} must be a finite amount, not below zero; got {value}")


def check_share(name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    """A number that lies between two bounds, these included.

    Raises
    ------
    ValueError
    """
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it lies in [{low:g}, {high:g}]")


def check_count(name: str, value: float, least: int = 0) -> int:
    """A whole number from `least` on.

    Raises
    ------
    ValueError
    """
    if not (math.isfinite(value) and value == int(value) and value >= least):
        raise ValueError(f"{name} is {value}; it must be a whole number, not below {least}")
    return int(value)
