"""An index into long ladders: from a price's code to the few rungs it may lie among.

The code is the distance from the mark on a grid that is even in its logarithm, as triggers are: its
exponent and leading bits. It never falls as the distance grows, so rungs of lower codes than a
price's are hit, rungs of higher codes are not, and only those of its own code must be compared.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit

#: Ladders of at least this many rungs have an index: as many as a block has scenarios. Shorter ones
#: are cheaper to count rung by rung, and the index would weigh more than 12 bytes a rung.
LONG = 4096
#: Distances from 2**-12, 2**11 codes for each doubling, to 1 and beyond.
_NEAREST, _BITS, _DOUBLINGS = 2.0**-12, 11, 12
N_CODES = _DOUBLINGS << _BITS
_SHIFT = np.int64(52 - _BITS)
#: Of an entry.
_MOST = 0xFFFF
_ORIGIN = np.int64(np.float64(_NEAREST).view(np.int64))


@njit(inline="always")
def code_of(adverse: float, side: int) -> int:
    """Code of an adverse coordinate: 0 at and near the mark, ``N_CODES - 1`` far from it."""
    distance = max(1.0 + adverse if side == 0 else adverse - 1.0, _NEAREST)
    code = int((np.float64(distance).view(np.int64) - _ORIGIN) >> _SHIFT)
    return min(code, N_CODES - 1)


@njit
def fill_codes(extreme: np.ndarray, code: np.ndarray) -> None:
    """Codes of the sorted extremes (asset, side, scenario)."""
    for a in range(extreme.shape[0]):
        for s in range(extreme.shape[1]):
            for j in range(extreme.shape[2]):
                code[a, s, j] = code_of(extreme[a, s, j], s)


@njit(inline="always")
def grain_of(n_rungs: int) -> int:
    """Binary digits that an entry of the index leaves out, so that it fits two bytes."""
    grain = 0
    while n_rungs >> grain > _MOST:
        grain += 1
    return grain


@njit
def fill_index(
    start: np.ndarray, side: np.ndarray, first: np.ndarray, lower_start: np.ndarray,
    lower: np.ndarray,
) -> None:  # fmt: skip
    """Count, for every code of a long ladder, its rungs of lower codes; the last entry is all."""
    count = np.zeros(N_CODES + 1, np.int64)
    for ladder in range(len(side)):
        at, end = lower_start[ladder], lower_start[ladder + 1]
        if at == end:
            continue
        count[:] = 0
        for p in range(start[ladder], start[ladder + 1]):
            count[code_of(first[p], side[ladder]) + 1] += 1
        grain = grain_of(start[ladder + 1] - start[ladder])
        for i in range(N_CODES):
            count[i + 1] += count[i]
            lower[at + i + 1] = count[i + 1] >> grain


def index_ladders(
    start: np.ndarray, side: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Index of every long ladder.

    Parameters
    ----------
    start : ndarray (ladder + 1,)
        Where a ladder's rungs are in `first`.
    side : ndarray (ladder,)
    first : ndarray (rung,)
        Adverse coordinates, sorted within each ladder.

    Returns
    -------
    lower_start : ndarray (ladder + 1,)
    lower : ndarray
        ``N_CODES + 1`` entries for each ladder of `LONG` rungs or more, without the last
        `grain_of` binary digits: as many rungs have a lower code, or a few more.
    """
    sizes = np.where(np.diff(start) >= LONG, N_CODES + 1, 0)
    lower_start = np.concatenate([[0], np.cumsum(sizes)]).astype("i8")
    lower = np.zeros(lower_start[-1], "u2")
    fill_index(start, side, first, lower_start, lower)
    return lower_start, lower
