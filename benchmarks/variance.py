"""Variance reduction: standard error per second of tail measures against plain sampling.

Each scheme draws the same number of paths again and again with another seed, walks the ladders of a
sample book, and measures. The spread over the seeds is the standard error; divided into what plain
sampling needs for the same error it is the gain: how many times the paths, or the time, plain
sampling would take.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.table import show
from risk.liquidation import Ladders, build_ladders, walk
from risk.margin.book import build_book
from risk.market.calibration import calibrate
from risk.market.history import load_history, universe
from risk.measures import expected_shortfall
from risk.sample import write_sample
from risk.scenarios.monte_carlo import draw_block
from risk.snapshot import load_snapshot

#: Draw settings of each scheme.
SCHEMES = {
    "plain": {},
    "antithetic": {"sampling": "antithetic"},
    "sobol": {"sampling": "sobol"},
    "tilt 50": {"tilt": 50.0},
    "sobol, tilt 50": {"sampling": "sobol", "tilt": 50.0},
}
#: Measure and level.
MEASURES = {"loss": 0.975, "deficit": 0.999}
AS_OF = dt.date(2025, 6, 29)


def sample_ladders(positions: int, seed: int = 1) -> tuple[Ladders, xr.Dataset]:
    """Ladders of a sample book, and the calibration on its history."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rules = Path(__file__).parents[1] / "configs/venues"
        write_sample(folder, positions=positions, seed=seed, venue_rules=rules)
        snapshot = load_snapshot(folder, as_of=AS_OF, venue_folders=[rules])
        history = load_history(folder / "history", AS_OF)
    assets = universe(history, AS_OF)
    book = build_book(
        snapshot.positions, snapshot.contracts, snapshot.tiers, snapshot.venues, as_of=AS_OF
    )
    return build_ladders(book, assets, ["venue"], 100), calibrate(history, assets)


def replicate(
    ladders: Ladders, calibration: xr.Dataset, scheme: str, seed: int, n: int
) -> tuple[dict[str, float], float]:
    """The measures of one set of paths, and the processor seconds it took."""
    begun = time.process_time()
    drivers = draw_block(
        calibration, seed=seed, set_code=2, block=0, n=n, steps=24, horizon_days=1,
        **SCHEMES[scheme],
    )  # fmt: skip
    cube = walk(ladders, drivers)
    weights = drivers["weight"].values if "tilt" in SCHEMES[scheme] else None
    found = {}
    for name, variable, sign in (("loss", "pnl", 1.0), ("deficit", "deficit", -1.0)):
        total = sign * cube[variable].sum("cell").values
        found[name] = float(expected_shortfall(total, MEASURES[name], weights=weights))
    return found, time.process_time() - begun


def study(ladders: Ladders, calibration: xr.Dataset, *, n: int, seeds: int) -> xr.Dataset:
    """Mean, standard error of one set of paths, and seconds per set, by scheme and measure."""
    values = np.empty((len(SCHEMES), len(MEASURES), seeds))
    seconds = np.zeros(len(SCHEMES))
    for row, scheme in enumerate(SCHEMES):
        replicate(ladders, calibration, scheme, 0, n)  # compiled and warm
        for seed in range(seeds):
            found, taken = replicate(ladders, calibration, scheme, 1000 + seed, n)
            values[row, :, seed] = [found[name] for name in MEASURES]
            seconds[row] += taken / seeds
    return xr.Dataset(
        {
            "mean": (("scheme", "measure"), values.mean(axis=2)),
            "standard_error": (("scheme", "measure"), values.std(axis=2, ddof=1)),
            "seconds": ("scheme", seconds),
        },
        coords={"scheme": list(SCHEMES), "measure": list(MEASURES)},
    )


def rows(found: xr.Dataset, seeds: int) -> list[tuple[str, str, str]]:
    """A line per scheme and measure: error, gain per path and per second."""
    out = []
    plain = found.sel(scheme="plain")
    for measure, level in MEASURES.items():
        for scheme in SCHEMES:
            at = found.sel(scheme=scheme, measure=measure)
            base = plain.sel(measure=measure)
            ratio = float(base["standard_error"] / at["standard_error"]) ** 2
            speed = ratio * float(base["seconds"] / at["seconds"])
            error = float(at["standard_error"] / at["mean"])
            drift = float(at["mean"] / base["mean"] - 1)
            noise = np.hypot(error, float(base["standard_error"] / base["mean"])) / np.sqrt(seeds)
            out.append(
                (
                    f"ES {level:.1%} of the {measure}, {scheme}: error, gain per second "
                    f"(per path {ratio:.1f}, {1e3 * float(at['seconds']):.0f} ms; "
                    f"mean {drift:+.1%} +- {noise:.1%})",
                    f"{error:.2%}",
                    f"x {speed:.1f}",
                )
            )
    return out


def main(arguments: list[str]) -> int:
    """Print the study; ``--large`` takes four times the paths and seeds."""
    n, seeds, positions = 4_096, 16, 20_000
    if "--large" in arguments:
        n, seeds = 16_384, 64
    elif "--toy" in arguments:
        n, seeds, positions = 256, 2, 300
    ladders, calibration = sample_ladders(positions)
    show(rows(study(ladders, calibration, n=n, seeds=seeds), seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
