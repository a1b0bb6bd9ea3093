"""The t-copula, mirrored and Sobol normals, tilted jumps: their laws against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from risk.errors import ConfigError
from risk.measures import expected_shortfall
from risk.scenarios.draws import TILE
from risk.scenarios.jumps import jump_parameters, place_common
from risk.scenarios.monte_carlo import draw_block, path_weights
from risk.scenarios.sampling import component_rotation

N = 40_960
MARGINS = (3.0, 5.0, 12.0)


def model(volatility=(0.05, 0.08, 0.03), **changes) -> xr.Dataset:
    n = len(volatility)
    names = np.array([f"A{k}" for k in range(n)], object)
    correlation = np.array([[1.0, 0.7, 0.3], [0.7, 1.0, 0.5], [0.3, 0.5, 1.0]])
    scalars = {
        "degrees_of_freedom": 5.0,
        "copula_df": 4.0,
        "common_intensity": 0.01,
        "common_mean": -0.2,
        "common_sd": 0.1,
    } | changes
    arrays = {
        "volatility": np.array(volatility),
        "margin_df": np.array(MARGINS),
        "common_loading": np.ones(n),
        "common_residual_sd": np.full(n, 0.01),
        "own_intensity": np.full(n, 0.02),
        "own_mean": np.full(n, 0.0),
        "own_sd": np.full(n, 0.1),
    }
    return xr.Dataset(
        {name: ((), value) for name, value in scalars.items()}
        | {name: ("asset", value) for name, value in arrays.items()}
        | {"correlation": (("asset", "asset_2"), correlation)},
        coords={"asset": names, "asset_2": names},
    )


#: So small that the compensator does not show beside the move.
QUIET = model((1e-4, 2e-4, 1e-4))


def draw(calibration: xr.Dataset, n: int = N, **changes) -> xr.Dataset:
    key = {"seed": 1, "set_code": 2, "block": 3, "steps": 24, "horizon_days": 1}
    return draw_block(calibration, **(key | {"n": n} | changes))


def standardised(drivers: xr.Dataset, calibration: xr.Dataset) -> np.ndarray:
    return np.log(drivers["last"].values) / calibration["volatility"].values


# -- the t-copula --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copula_days() -> np.ndarray:
    return standardised(draw(QUIET, model="t_copula", jumps=False), QUIET)


@pytest.mark.parametrize("asset", range(3))
def test_each_margin_is_student_t_with_its_own_degrees_of_freedom(copula_days, asset):
    df = MARGINS[asset]
    unit = copula_days[:, asset] * np.sqrt(df / (df - 2))
    assert stats.kstest(unit, "t", args=(df,)).pvalue > 0.001


@pytest.mark.parametrize(("one", "two", "rho"), [(0, 1, 0.7), (0, 2, 0.3), (1, 2, 0.5)])
def test_kendalls_tau_is_that_of_the_copulas_correlation(copula_days, one, two, rho):
    tau = stats.kendalltau(copula_days[:8000, one], copula_days[:8000, two]).statistic
    # Standard error at most sqrt(2 (1 - tau^2) / n); below 0.016 here.
    assert tau == pytest.approx(2 / np.pi * np.arcsin(rho), abs=4 * 0.016)


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_joint_falls_are_as_likely_as_the_t_copula_says(copula_days, level):
    uniform = stats.rankdata(copula_days[:, :2], axis=0) / len(copula_days)
    together = (uniform <= level).all(axis=1)
    point = stats.t.ppf([level, level], 4)
    truth = stats.multivariate_t.cdf(
        point, shape=[[1, 0.7], [0.7, 1]], df=4, random_state=np.random.default_rng(1)
    )
    error = np.sqrt(truth * (1 - truth) / len(together))
    assert abs(together.mean() - truth) < 4 * error
    # Several times what a Gaussian copula of the same correlation shows far out.
    gauss = stats.multivariate_normal.cdf(stats.norm.ppf([level, level]), cov=[[1, 0.7], [0.7, 1]])
    assert truth > gauss


def test_with_equal_degrees_of_freedom_the_copula_model_is_the_student_t_model():
    same = QUIET.assign(copula_df=((), 5.0), margin_df=("asset", np.full(3, 5.0)))
    one, two = draw(same, 2000), draw(same, 2000, model="t_copula")
    for name in ("low", "high", "last", "gap_before", "gap_landing"):
        np.testing.assert_allclose(np.log(one[name]), np.log(two[name]), rtol=1e-5, atol=1e-12)


def test_a_copula_price_has_mean_one_within_its_error():
    last = draw(model(), model="t_copula", jumps=False)["last"].values
    error = last.std(axis=0) / np.sqrt(N)
    assert (np.abs(last.mean(axis=0) - 1) < 4 * error).all()


def test_the_copula_needs_a_calibration_that_has_one():
    with pytest.raises(ConfigError, match="calibrate with copula=True"):
        draw(model().drop_vars("copula_df"), 10, model="t_copula")


# -- volatilities that revert --------------------------------------------------------------------


def test_variance_reverts_day_by_day_as_the_calibration_says():
    calibration = QUIET.assign(omega=("asset", np.full(3, 4e-9)), persistence=("asset", [0.5] * 3))
    drivers = draw(calibration, model="normal", jumps=False, steps=24, horizon_days=2)
    first = calibration["volatility"].values ** 2
    expected = np.sqrt(first + 4e-9 + 0.5 * first)
    found = np.log(drivers["last"].values).std(axis=0)
    np.testing.assert_allclose(found, expected, rtol=4 / np.sqrt(2 * N))


# -- mirrored and Sobol normals ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["student_t", "t_copula"])
def test_the_second_half_of_a_mirrored_tile_is_the_first_turned_around(name):
    drivers = draw(QUIET, TILE, sampling="antithetic", jumps=False, model=name)
    low, high, last = (np.log(drivers[part].values) for part in ("low", "high", "last"))
    half = TILE // 2
    for one, other in ((last, last), (low, high), (high, low)):
        # Up to the compensator, a ten-thousandth of the move.
        np.testing.assert_allclose(one[:half], -other[half:], atol=2e-6)


def first_passage(ratio: float, sd: float) -> float:
    """P(a price of mean one falls to `ratio`); see test_monte_carlo."""
    level, drift = np.log(ratio), -(sd**2) / 2
    return stats.norm.cdf((level - drift) / sd) + np.exp(
        2 * drift * level / sd**2
    ) * stats.norm.cdf((level + drift) / sd)


@pytest.mark.parametrize("sampling", ["antithetic", "sobol"])
@pytest.mark.parametrize("ratio", [0.98, 0.9])
def test_the_chance_of_touching_a_trigger_does_not_depend_on_the_sampling(sampling, ratio):
    drivers = draw(model(), sampling=sampling, model="normal", jumps=False)
    for asset, sd in enumerate(model()["volatility"].values):
        truth = first_passage(ratio, sd)
        error = np.sqrt(truth * (1 - truth) / N)
        assert abs((drivers["low"].values[:, asset] <= ratio).mean() - truth) < 4 * error


@pytest.mark.parametrize("sampling", ["antithetic", "sobol"])
def test_moments_and_correlation_do_not_depend_on_the_sampling(sampling):
    days = standardised(draw(QUIET, sampling=sampling, jumps=False), QUIET)
    assert np.abs(days.mean(axis=0)).max() < 4 / np.sqrt(N)
    np.testing.assert_allclose(days.std(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(
        np.corrcoef(days.T)[np.triu_indices(3, 1)], [0.7, 0.3, 0.5], atol=0.03
    )


def test_sobol_steps_are_independent_normals():
    """The bridge gives back white noise: variance one and no correlation between steps."""
    from risk.scenarios.sampling import SobolNormals

    rng, scramble = np.random.default_rng(1), np.random.default_rng(2)
    source = SobolNormals(rng, scramble, (2, 1024), np.eye(2), 0, 1)
    assert source.begin_tile().shape == (3, 1024)
    chi_square = source.chi_square(rng, 5.0, 1)
    steps = np.stack([step.copy() for step in source.steps(5)])
    flat = steps.reshape(10, 1024)
    np.testing.assert_allclose(np.cov(flat), np.eye(10), atol=4 * np.sqrt(2 / 1024))
    assert stats.kstest(chi_square[0], "chi2", args=(5,)).pvalue > 0.05


def test_consecutive_sobol_blocks_are_one_sequence():
    whole = draw(QUIET, 1024, block=0, sampling="sobol", jumps=False, block_size=1024)
    parts = [
        draw(QUIET, 256, block=k, sampling="sobol", jumps=False, block_size=256) for k in range(4)
    ]
    joined = np.concatenate([part["last"].values for part in parts])
    # The steps in between are each block's own; the ends are the sequence's.
    for asset in range(3):
        assert np.corrcoef(np.log(joined[:, asset]), np.log(whole["last"][:, asset]))[0, 1] > 0.999


def test_sobol_ends_fill_the_line_more_evenly_than_plain_draws():
    errors = {
        sampling: abs(
            np.mean(standardised(draw(QUIET, 4096, sampling=sampling, jumps=False), QUIET)[:, 0])
        )
        for sampling in ("plain", "sobol")
    }
    # A plain mean of 4,096 has a standard error of 0.016.
    assert errors["sobol"] < 0.003
    assert errors["sobol"] < errors["plain"]


def test_the_rotation_drives_principal_components_and_changes_no_covariance():
    factor = np.linalg.cholesky(model()["correlation"].values)
    rotation = component_rotation(factor)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    columns = factor @ rotation
    inner = columns.T @ columns
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-12)
    assert (np.diff(np.diag(inner)) < 0).all()
    assert (columns.sum(axis=0) >= 0).all()


@pytest.mark.parametrize("sampling", ["plain", "antithetic", "sobol"])
def test_the_first_paths_do_not_depend_on_how_many_are_asked_for(sampling):
    few = draw(model(), 300, sampling=sampling, block_size=1000)
    many = draw(model(), 1000, sampling=sampling, block_size=1000)
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(few[name], many[name][:300])


# -- tilted jumps --------------------------------------------------------------------------------


def test_the_untilted_half_of_a_tilted_block_is_the_plain_block():
    plain, tilted = draw(model(), 1000), draw(model(), 1000, tilt=30.0)
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(plain[name][::2], tilted[name][::2])
    assert (plain["low"].values[1::2] > tilted["low"].values[1::2]).any()


def test_tilted_weights_give_back_the_probability_of_a_jump():
    # Only common jumps, on prices that stand still: who moved has jumped.
    still = model((1e-9,) * 3, common_intensity=0.02).assign(own_intensity=("asset", np.zeros(3)))
    truth = 1 - np.exp(-0.02)
    drivers = draw(still, tilt=20.0)
    jumped = np.abs(np.log(drivers["last"].values[:, 0])) > 1e-4
    weight = drivers["weight"].values
    assert jumped.mean() > 0.1
    assert weight @ jumped == pytest.approx(truth, rel=0.05)
    assert weight.sum() == pytest.approx(1)
    # Balanced: no path counts more than twice its share.
    assert weight.max() * N < 2.05
    # The plain draw's error at this size is four times as large.
    spread = np.sqrt(np.sum(weight**2 * (jumped - truth) ** 2))
    assert spread < 0.5 * np.sqrt(truth * (1 - truth) / N)


def test_placed_jumps_are_poisson_in_number_and_normal_in_size():
    calibration = model(common_intensity=0.0)
    parameter = jump_parameters(calibration)
    uniform = np.random.default_rng(1).random((2, 20_000))
    expected = np.full(20_000, 0.8)
    placed = place_common(np.random.default_rng(2), parameter, uniform, 24, expected)
    count = np.bincount(placed.scenario, minlength=20_000)
    np.testing.assert_array_equal(count, stats.poisson.ppf(uniform[0], 0.8))
    market = placed.size.mean(axis=1)
    spread = np.hypot(0.1, 0.01 / np.sqrt(3))
    assert stats.kstest(market, "norm", args=(-0.2, spread)).pvalue > 0.001
    assert stats.kstest(placed.step / 24, "uniform").statistic < 0.06


def test_tilted_sobol_paths_carry_the_weights_of_the_jumps_they_have():
    still = model((1e-9,) * 3, common_intensity=0.02).assign(own_intensity=("asset", np.zeros(3)))
    drivers = draw(still, 8192, tilt=20.0, sampling="sobol")
    jumped = np.abs(np.log(drivers["last"].values[:, 0])) > 1e-4
    weight = drivers["weight"].values
    # Placed, not drawn: the share of jumping paths is hardly random.
    assert weight @ jumped == pytest.approx(1 - np.exp(-0.02), rel=0.01)
    settings = {"seed": 1, "set_code": 2, "steps": 24, "horizon_days": 1, "block_size": 8192,
                "tilt": 20.0, "sampling": "sobol"}  # fmt: skip
    whole = path_weights(still, 4 * 8192, settings)[3 * 8192 :]
    np.testing.assert_allclose(whole / whole.sum(), weight, rtol=1e-9)


def test_weights_of_a_run_are_those_of_its_blocks_together():
    settings = {"seed": 1, "set_code": 2, "steps": 24, "horizon_days": 1, "block_size": 512}
    calibration = model()
    weight = path_weights(calibration, 1300, settings | {"tilt": 25.0})
    assert weight.sum() == pytest.approx(1)
    blocks = [
        draw(calibration, n, block=k, tilt=25.0)["weight"].values
        for k, n in enumerate((512, 512, 276))
    ]
    for k, own in enumerate(blocks):
        part = weight[512 * k : 512 * k + len(own)]
        np.testing.assert_allclose(part / part.sum(), own, rtol=1e-12)
    equal = path_weights(calibration, 1300, settings)
    np.testing.assert_array_equal(equal, 1 / 1300)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tilt": 0.5}, "a tilt of 0.5"),
        ({"tilt": 5.0, "jumps": False}, "a tilt of 5 with jumps False"),
        ({"sampling": "halton"}, "unknown sampling 'halton'"),
    ],
)
def test_a_sampling_that_cannot_be_served_is_a_config_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        draw(model(), 10, **changes)


# -- all schemes measure the same ----------------------------------------------------------------

SCHEMES = {
    "plain": {},
    "antithetic": {"sampling": "antithetic"},
    "sobol": {"sampling": "sobol"},
    "tilt": {"tilt": 20.0},
    "sobol and tilt": {"sampling": "sobol", "tilt": 20.0},
}


def tail_figures(seed: int, scheme: str, n: int = 4096) -> tuple[float, float]:
    """ES 97.5 of a long portfolio, and ES 99.9 of what its gaps leave unpaid beyond 10 %."""
    drivers = draw(model(), n, seed=seed, **SCHEMES[scheme])
    loss = 1 - drivers["last"].values.mean(axis=1)
    fall = drivers["gap_direction"].values < 0
    unpaid = np.minimum(drivers["gap_before"].values, 0.9) - drivers["gap_landing"].values
    deficit = np.bincount(
        drivers["gap_scenario"].values[fall], np.maximum(unpaid[fall], 0), minlength=n
    )
    weights = drivers["weight"].values
    return (
        float(expected_shortfall(-loss, 0.975, weights=weights)),
        float(expected_shortfall(-deficit, 0.999, weights=weights)),
    )


@pytest.fixture(scope="module")
def replications() -> dict[str, np.ndarray]:
    return {
        scheme: np.array([tail_figures(seed, scheme) for seed in range(12)]) for scheme in SCHEMES
    }


@pytest.mark.parametrize("scheme", list(SCHEMES)[1:])
def test_every_scheme_estimates_the_same_tail_within_its_error(replications, scheme):
    plain, other = replications["plain"], replications[scheme]
    error = np.sqrt((plain.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / len(plain))
    assert (np.abs(plain.mean(axis=0) - other.mean(axis=0)) < 4 * error).all()
    best = replications["sobol and tilt"]
    error = np.sqrt((best.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / len(best))
    assert (np.abs(best.mean(axis=0) - other.mean(axis=0)) < 4 * error).all()


def test_tilting_pays_in_the_deficit_tail_and_sobol_points_in_the_loss(replications):
    spread = {scheme: values.std(axis=0, ddof=1) for scheme, values in replications.items()}
    # Twelve seeds know a ratio of spreads to a factor of 1.5; common jumps are not rare here.
    assert spread["plain"][1] > 1.5 * spread["tilt"][1]
    assert spread["plain"][0] > 1.5 * spread["sobol"][0]
    assert spread["plain"][1] > 3 * spread["sobol and tilt"][1]
