"""A correlation matrix from series of different lengths: shrunk, positive definite."""

from __future__ import annotations

import numpy as np

#: Least eigenvalue of the result, before the diagonal is scaled back to one.
EIGENVALUE_FLOOR = 1e-4

#: Least shrinkage: an identical twin (the same coin listed twice) must not make it singular.
MIN_SHRINKAGE = 0.01


def shrunk_correlation(values: np.ndarray, min_overlap: int) -> tuple[np.ndarray, float]:
    """Pairwise correlation, shrunk towards its own mean, with floored eigenvalues.

    The intensity is the ratio of estimation error to dispersion, sum var(r) / sum (r - mean)^2 over
    the pairs, with var(r) = (1 - r^2)^2 / (n - 1) of the pair's common days [1]_ [2]_.

    Parameters
    ----------
    values : ndarray (day, asset)
        Standardised returns; NaN where there is none.
    min_overlap : int
        Pairs with fewer common days take the mean correlation.

    Returns
    -------
    correlation : ndarray (asset, asset)
    intensity : float
        In [0.01, 1].

    References
    ----------
    .. [1] O. Ledoit and M. Wolf, "Honey, I shrunk the sample covariance matrix", J. Portfolio
       Management 30, 2004 (target: constant correlation).
    .. [2] J. Schafer and K. Strimmer, "A shrinkage approach to large-scale covariance matrix
       estimation", Stat. Appl. Genet. Mol. Biol. 4, 2005 (variance of the entries).
    """
    n_assets = values.shape[1]
    if n_assets == 1:
        return np.ones((1, 1)), MIN_SHRINKAGE
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    flags = there.astype("f8")
    overlap = flags.T @ flags
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = filled.T @ flags / overlap
        cross = filled.T @ filled / overlap - mean * mean.T
        square = (filled**2).T @ flags / overlap - mean**2
        correlation = cross / np.sqrt(square * square.T)
    upper = np.triu_indices(n_assets, 1)
    usable = (overlap >= min_overlap) & np.isfinite(correlation)
    pairs = correlation[upper][usable[upper]]
    target = pairs.mean() if len(pairs) else 0.0
    correlation = np.clip(np.where(usable, correlation, target), -1.0, 1.0)
    error = ((1 - pairs**2) ** 2 / (overlap[upper][usable[upper]] - 1)).sum()
    dispersion = ((pairs - target) ** 2).sum()
    intensity = float(np.clip(error / dispersion if dispersion > 0 else 1.0, MIN_SHRINKAGE, 1.0))
    shrunk = (1 - intensity) * correlation + intensity * target
    np.fill_diagonal(shrunk, 1.0)
    return _definite(shrunk), intensity


def _definite(matrix: np.ndarray) -> np.ndarray:
    """Floor the eigenvalues and scale the diagonal back to one."""
    size, axes = np.linalg.eigh((matrix + matrix.T) / 2)
    if size[0] >= EIGENVALUE_FLOOR:
        return matrix
    floored = (axes * np.maximum(size, EIGENVALUE_FLOOR)) @ axes.T
    scale = 1 / np.sqrt(np.diag(floored))
    out = floored * scale[:, None] * scale
    out = (out + out.T) / 2
    np.fill_diagonal(out, 1.0)
    return out
