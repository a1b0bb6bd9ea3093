"""Monte Carlo blocks: their bytes, their moments, their extremes against closed forms."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from scipy import integrate, stats

from risk.errors import ConfigError
from risk.scenarios import monte_carlo
from risk.scenarios.draws import TILE, Paths
from risk.scenarios.monte_carlo import draw_block

N = 40_000


def model(
    volatility: tuple[float, ...] = (0.05, 0.08, 0.03),
    correlation: float = 0.6,
    df: float = 5.0,
    common_intensity: float = 0.02,
    own_intensity: float = 0.03,
) -> xr.Dataset:
    n = len(volatility)
    names = np.array([f"A{k}" for k in range(n)], object)
    matrix = np.full((n, n), correlation) + (1 - correlation) * np.eye(n)
    return xr.Dataset(
        {
            "volatility": ("asset", np.array(volatility)),
            "correlation": (("asset", "asset_2"), matrix),
            "degrees_of_freedom": ((), df),
            "common_intensity": ((), common_intensity),
            "common_mean": ((), -0.1),
            "common_sd": ((), 0.1),
            "common_loading": ("asset", np.linspace(0.8, 1.2, n)),
            "common_residual_sd": ("asset", np.full(n, 0.03)),
            "own_intensity": ("asset", np.full(n, own_intensity)),
            "own_mean": ("asset", np.full(n, 0.05)),
            "own_sd": ("asset", np.full(n, 0.15)),
        },
        coords={"asset": names, "asset_2": names},
    )


KEY = {"seed": 1, "set_code": 2, "block": 3, "steps": 24, "horizon_days": 1}


def draw(calibration: xr.Dataset, n: int = N, **changes) -> xr.Dataset:
    return draw_block(calibration, **(KEY | {"n": n} | changes))


def first_passage(ratio: float, sd: float) -> float:
    """P(a price of mean one falls to `ratio`): reflection principle with drift -sd^2 / 2.

    Reference: A. Borodin and P. Salminen, Handbook of Brownian Motion, 2nd ed., 2.1.2.4 (1).
    """
    level, drift = np.log(ratio), -(sd**2) / 2
    direct = stats.norm.cdf((level - drift) / sd)
    mirrored = np.exp(2 * drift * level / sd**2) * stats.norm.cdf((level + drift) / sd)
    return direct + mirrored


def assert_within(count: np.ndarray, probability: float, errors: float = 4.0) -> None:
    """A share of hits lies within `errors` binomial standard errors of its probability."""
    error = np.sqrt(probability * (1 - probability) / count.size)
    assert abs(count.mean() - probability) < errors * error


@pytest.mark.parametrize("ratio", [0.98, 0.95, 0.9, 0.85])
def test_without_jumps_the_chance_of_touching_a_trigger_is_the_closed_form(ratio):
    drivers = draw(model(), model="normal", jumps=False)
    for asset, sd in enumerate(model()["volatility"].values):
        assert_within(drivers["low"].values[:, asset] <= ratio, first_passage(ratio, sd))


@pytest.mark.parametrize("ratio", [1.02, 1.05, 1.1])
def test_without_jumps_the_chance_of_touching_a_high_is_the_closed_form(ratio):
    drivers = draw(model(), model="normal", jumps=False)
    for asset, sd in enumerate(model()["volatility"].values):
        # A high of x is a low of 1/x with the drift reversed.
        level, drift = np.log(ratio), -(sd**2) / 2
        expected = stats.norm.sf((level - drift) / sd) + np.exp(
            2 * drift * level / sd**2
        ) * stats.norm.cdf((-level - drift) / sd)
        assert_within(drivers["high"].values[:, asset] >= ratio, expected)


def test_for_a_small_volatility_the_closed_form_is_twice_the_normal_tail():
    sd = 0.002
    drivers = draw(model(volatility=(sd,)), model="normal", jumps=False)
    # The drift of -sd^2 / 2 changes this by less than sd / 4, a fifth of the standard error.
    assert_within(drivers["low"].values <= np.exp(-sd), 2 * stats.norm.cdf(-1))


@pytest.mark.parametrize("ratio", [0.95, 0.85, 0.75])
def test_student_t_first_passage_is_the_closed_form_averaged_over_the_mixing(ratio):
    df = 5.0
    drivers = draw(model(df=df), jumps=False)
    for asset, sd in enumerate(model()["volatility"].values):

        def passage(chi_square, sd=sd):
            mixed = sd * np.sqrt((df - 2) / chi_square)
            return first_passage(ratio, mixed) * stats.chi2.pdf(chi_square, df)

        expected, _ = integrate.quad(passage, 1e-6, 80, limit=200)
        assert_within(drivers["low"].values[:, asset] <= ratio, expected)


@pytest.mark.parametrize("name", ["normal", "student_t"])
def test_without_jumps_the_mean_price_stays_where_it_was(name):
    last = draw(model(), model=name, jumps=False)["last"].values
    error = last.std(axis=0) / np.sqrt(N)
    assert (np.abs(last.mean(axis=0) - 1) < 4 * error).all()


@pytest.mark.parametrize("name", ["normal", "student_t"])
@pytest.mark.parametrize("horizon_days", [1, 3])
def test_volatility_and_correlation_are_those_asked_for(name, horizon_days):
    # Ten degrees of freedom: with five the sampling error of a variance has no finite variance.
    drivers = draw(model(df=10.0), model=name, jumps=False, horizon_days=horizon_days)
    log = np.log(drivers["last"].values)
    expected = model()["volatility"].values * np.sqrt(horizon_days)
    kurtosis = stats.kurtosis(log, fisher=False)
    error = np.sqrt((kurtosis - 1) / (4 * N))
    assert (np.abs(log.std(axis=0) / expected - 1) < 4 * error + 0.002).all()
    pairs = np.corrcoef(log.T)[np.triu_indices(3, 1)]
    assert (np.abs(pairs - 0.6) < 4 * (1 - 0.6**2) * np.sqrt(kurtosis.max() / 3 / N)).all()


def test_the_daily_return_is_student_t_and_not_the_step():
    df = 5.0
    log = np.log(draw(model(df=df), jumps=False)["last"].values[:, 2])
    # Take the compensator off by its mean; at 3 % a day what is left of it is noise.
    standard = (log + 0.03**2 / 2) / 0.03 / np.sqrt((df - 2) / df)
    assert stats.kstest(standard, "t", args=(df,)).statistic < 1.63 / np.sqrt(N)
    assert stats.kstest(standard * np.sqrt((df - 2) / df), "norm").pvalue < 1e-6


def test_tails_depend_on_each_other_more_than_gaussian_ones():
    def joint(name: str) -> float:
        log = np.log(draw(model(df=4.0), model=name, jumps=False)["last"].values[:, :2])
        return float((log < np.quantile(log, 0.005, axis=0)).all(axis=1).mean())

    assert joint("student_t") > 1.3 * joint("normal")


def test_two_assets_lows_are_as_correlated_as_their_steps_imply():
    # 0.754 at 24 steps against 0.757 in continuous time is the figure for a correlation of 0.8.
    low = draw(model(correlation=0.8), model="normal", jumps=False)["low"].values
    assert np.corrcoef(np.log(low[:, :2]).T)[0, 1] == pytest.approx(0.754, abs=0.01)


def test_jumps_come_at_their_rate_and_set_new_extremes():
    calibration = model(volatility=(1e-5,) * 3, common_intensity=0.0, own_intensity=0.05)
    drivers = draw(calibration)
    # Against hardly any diffusion the first jump of a path always sets a new extreme.
    hit = np.zeros((N, 3), bool)
    hit[drivers["gap_scenario"].values, drivers["gap_asset"].values] = True
    assert_within(hit, 1 - np.exp(-0.05))
    step = (drivers["gap_landing"] - drivers["gap_before"]) * drivers["gap_direction"]
    assert (step > 0).all()


def test_a_common_jump_moves_every_asset_at_once():
    calibration = model(volatility=(1e-5,) * 3, common_intensity=0.05, own_intensity=0.0)
    drivers = draw(calibration)
    moved = np.abs(np.log(drivers["last"].values)) > 1e-3
    assert_within(moved.all(axis=1), 1 - np.exp(-0.05), errors=5)
    assert moved.any(axis=1).sum() - moved.all(axis=1).sum() < 0.01 * N


def test_switching_jumps_off_leaves_the_diffusion_as_it_was():
    off = draw(model(), n=2000, jumps=False)
    on = draw(model(common_intensity=0.0, own_intensity=0.0), n=2000)
    xr.testing.assert_identical(off, on)
    assert off.sizes["gap"] == 0


def test_the_same_key_gives_the_same_bytes_and_another_key_other_draws():
    base = draw(model(), n=600)
    xr.testing.assert_identical(base, draw(model(), n=600))
    for change in ({"seed": 2}, {"set_code": 1}, {"block": 4}):
        other = draw(model(), n=600, **change)
        assert (base["last"] != other["last"]).all()


def test_the_first_paths_of_a_block_do_not_depend_on_how_many_are_drawn():
    long, short = draw(model(), n=3 * TILE), draw(model(), n=TILE + 7)
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(long[name].values[: TILE + 7], short[name].values)
    kept = long["gap_scenario"].values < TILE + 7
    np.testing.assert_array_equal(long["gap_landing"].values[kept], short["gap_landing"].values)


def test_blocks_drawn_in_many_threads_are_those_drawn_alone():
    blocks = range(6)
    alone = [draw(model(), n=500, block=block) for block in blocks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda block: draw(model(), n=500, block=block), blocks))
    for one, other in zip(alone, together, strict=True):
        xr.testing.assert_identical(one, other)


@pytest.mark.parametrize("name", ["normal", "student_t", "t_copula"])
def test_the_compiled_block_is_the_slow_obvious_one(name):
    """One path, one asset, one step at a time, with the same random numbers."""
    calibration = model(common_intensity=0.3, own_intensity=0.4).assign(
        copula_df=((), 4.0),
        margin_df=("asset", [3.0, 5.0, 9.0]),
        omega=("asset", [1e-4, 0.0, 2e-4]),
        persistence=("asset", [0.9, 1.0, 0.8]),
    )
    steps, days, n = 24, 2, 120
    drivers = draw(calibration, n=n, model=name, steps=steps, horizon_days=days)
    paths = Paths(**{key: KEY[key] for key in ("seed", "set_code", "block")}, steps=steps,
                  horizon_days=days, model=name)  # fmt: skip
    jumps = monte_carlo._jumps(calibration, paths)(None)
    shape = (steps, 3, TILE)
    normal = paths.stream("normal").standard_normal(shape)
    down = paths.stream("reach_low").standard_exponential(shape)
    up = paths.stream("reach_high").standard_exponential(shape)
    factor = np.linalg.cholesky(calibration["correlation"].values)
    # Each day's volatility, and what multiplies its variance (day, asset, scenario).
    first = calibration["volatility"].values
    second = np.sqrt(calibration["omega"].values + calibration["persistence"].values * first**2)
    chi_square = paths.stream("mixing").chisquare(4.0 if name == "t_copula" else 5.0, (days, TILE))
    mixing = np.ones((days, 3, TILE))
    for day in range(days):
        if name == "student_t":
            mixing[day] = 3.0 / chi_square[day]
        elif name == "t_copula":
            half = normal[day * 12 : (day + 1) * 12]
            ends = np.einsum("ij,kjs->is", factor, half) / np.sqrt(12)
            own = calibration["margin_df"].values[:, None]
            uniform = stats.t.cdf(ends / np.sqrt(chi_square[day] / 4), 4)
            mixing[day] = (stats.t.ppf(uniform, own) * np.sqrt((own - 2) / own) / ends) ** 2
    # The copula's stretch is read off a table of 4,096 points.
    precision = 1e-6 if name == "t_copula" else 1e-12
    gaps = []
    for s in range(n):
        price, low, high = np.zeros(3), np.zeros(3), np.zeros(3)
        for k in range(steps):
            day = k // (steps // days)
            sd = (first, second)[day] * np.sqrt(mixing[day, :, s] * days / steps)
            moves = sd * (factor @ normal[k, :, s]) - sd**2 / 2
            for i in range(3):
                width = moves[i] ** 2
                middle = price[i] + moves[i] / 2
                low[i] = min(low[i], middle - np.sqrt(width + 2 * sd[i] ** 2 * down[k, i, s]) / 2)
                high[i] = max(high[i], middle + np.sqrt(width + 2 * sd[i] ** 2 * up[k, i, s]) / 2)
                price[i] += moves[i]
            for j in np.flatnonzero((jumps.step == k) & (jumps.scenario == s)):
                i = jumps.asset[j]
                price[i] += jumps.size[j]
                if price[i] < low[i]:
                    gaps.append((s, i, -1, low[i], price[i]))
                elif price[i] > high[i]:
                    gaps.append((s, i, 1, high[i], price[i]))
                low[i], high[i] = min(low[i], price[i]), max(high[i], price[i])
        for part, values in (("low", low), ("high", high), ("last", price)):
            np.testing.assert_allclose(drivers[part].values[s], np.exp(values), rtol=precision)
    gaps.sort(key=lambda gap: gap[:3])
    assert len(gaps) > 50
    found = [drivers[f"gap_{name}"].values for name in ("scenario", "asset", "direction")]
    assert list(zip(*found, strict=True)) == [gap[:3] for gap in gaps]
    np.testing.assert_allclose(drivers["gap_before"], np.exp([g[3] for g in gaps]), rtol=precision)
    np.testing.assert_allclose(drivers["gap_landing"], np.exp([g[4] for g in gaps]), rtol=precision)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 6}, "at least 12"),
        ({"steps": 25, "horizon_days": 2}, "the same number for every day"),
        ({"horizon_days": 0}, "0 days"),
        ({"model": "cauchy"}, "unknown model 'cauchy'"),
        ({"n": 0}, "ask for at least one"),
    ],
)
def test_a_setting_that_cannot_be_served_is_a_config_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        draw(model(), **({"n": 10} | changes))
