"""The report's section on the calibration of the Monte Carlo model, and how well it fits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from risk.config import Config
from risk.cube import read_dataset
from risk.reports import Fact, Section
from risk.reports.fit_charts import transforms
from risk.reports.view import slug

#: Assets listed: the most volatile are not the largest, so all are, up to this many.
_N_ASSETS = 30

#: Columns: calibration variable, its standard error, factor, unit, decimals.
_COLUMNS = (
    ("volatility", "volatility_se", 100.0, "%", 2),
    ("beta", "beta_se", 1.0, "1", 2),
    ("tail_exponent_falls", None, 1.0, "1", 1),
    ("tail_exponent_rises", None, 1.0, "1", 1),
    ("own_intensity", None, 365.0, "1", 1),
    ("pit_statistic", None, 1.0, "1", 3),
    ("n_days", None, 1.0, "1", 0),
)


def calibration(folder: Path, config: Config) -> Section | None:
    """Parameters with their errors and goodness of fit; None without simulated paths."""
    if config.scenarios.monte_carlo is None or not (folder / "calibration.zarr").exists():
        return None
    found = read_dataset(folder / "calibration.zarr")
    facts = [
        Fact("fit.df", float(found.degrees_of_freedom), "1", "of the diffusion", 1),
        Fact("fit.df_se", float(found.degrees_of_freedom_se), "1", "its standard error", 1),
        Fact("fit.pit", float(found.pit_statistic_pooled), "1", "Kolmogorov-Smirnov distance", 3),
        Fact("fit.shrinkage", 100 * float(found.attrs["shrinkage"]), "%", "of correlation", 1),
        Fact("fit.common_jumps", 365 * float(found.common_intensity), "1", "per year", 2),
    ]
    shares = np.asarray(found["pit_histogram"].values, "f8")
    for place, share in enumerate(shares):
        facts.append(Fact(f"fit.bin.{place}", 100 * float(share), "%", "of the transforms", 2))
    rows = []
    for place, name in enumerate(str(asset) for asset in found.asset.values[:_N_ASSETS]):
        key = f"fit.asset.{slug(name)}"
        rows.append((name, key, bool(found["proxied"].values[place])))
        for column, error, factor, unit, decimals in _COLUMNS:
            value = factor * float(found[column].values[place])
            facts.append(Fact(f"{key}.{column}", value, unit, f"{name}, {column}", decimals))
            if error:
                value = factor * float(found[error].values[place])
                facts.append(Fact(f"{key}.{error}", value, unit, f"{name}, {error}", decimals))
    return Section(
        name="fit",
        title="Calibration and fit",
        nav="Fit",
        facts=tuple(facts),
        context={"rows": rows, "method": str(found.attrs["method"])},
        charts={"transforms": partial(transforms, n=len(shares))},
    )
