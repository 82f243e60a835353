"""Paired differences against their definition, counted out, and power against scipy's."""

import numpy as np
import pytest
from scipy import stats

from carsam.evaluation.paired import _draws, paired, power, seeds_needed


@pytest.fixture
def crossed():
    """Differences (S, N) with effects of seeds, of groups and of both, and their groups (N,)."""
    random = np.random.default_rng(3)
    group = np.repeat(np.arange(12), random.integers(1, 6, 12))
    effects = 0.3 * random.standard_normal((4, 1)) + random.standard_normal(12)
    effects = effects + 0.5 * random.standard_normal((4, 12))
    return effects[:, group] + 0.1 * random.standard_normal((4, len(group))), group


def test_the_interval_is_that_of_drawing_one_by_one(crossed):
    values, group = crossed
    found = paired(values, np.zeros_like(values), group, resamples=300, seed=5)
    random = np.random.default_rng(5)
    seeds, groups = _draws(random, 4, 300), _draws(random, 12, 300)
    means = []
    for drawn_seeds, drawn_groups in zip(seeds, groups, strict=True):
        sample = [
            value
            for seed in np.repeat(np.arange(4), drawn_seeds)
            for drawn in np.repeat(np.arange(12), drawn_groups)
            for value in values[seed, group == drawn]
        ]
        means.append(np.mean(sample))
    expected = np.quantile(means, [0.025, 0.975]) - np.mean(means) + values.mean()
    np.testing.assert_allclose(found.interval, expected)
    assert found.mean == pytest.approx(values.mean())
    np.testing.assert_allclose(found.by_seed, values.mean(1))


def test_variances_are_those_that_made_the_data():
    random = np.random.default_rng(0)
    seeds, groups, trials = 5, 30, 400
    group = np.repeat(np.arange(groups), 3)
    found = []
    for _ in range(trials):
        effects = 0.2 * random.standard_normal((seeds, 1)) + random.standard_normal(groups)
        effects = effects + 0.6 * random.standard_normal((seeds, groups))
        estimate = paired(effects[:, group], np.zeros((seeds, 90)), group, resamples=1)
        found.append((estimate.from_seeds, estimate.from_images))
    from_seeds, from_images = np.mean(found, axis=0)
    assert from_seeds == pytest.approx(0.2**2 + 0.6**2 / groups, rel=0.1)
    assert from_images == pytest.approx(1 / groups, rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(1)
    group = np.repeat(np.arange(30), 2)
    held = 0
    for trial in range(200):
        effects = 0.1 * random.standard_normal((6, 1)) + random.standard_normal((1, 30))
        found = paired(effects[:, group], np.zeros((6, 60)), group, resamples=300, seed=trial)
        held += found.interval[0] <= 0 <= found.interval[1]
    assert 0.88 <= held / 200 <= 0.99


def test_a_draw_is_unbiased():
    values = np.array([1.0, 4.0, -2.0])
    draws = _draws(np.random.default_rng(0), 3, 200_000)
    assert (draws @ values / 2).var() == pytest.approx(values.var(ddof=1) / 3, rel=0.02)


def test_one_seed_says_nothing_of_others(crossed):
    values, group = crossed
    found = paired(values[:1], np.zeros_like(values[:1]), group)
    assert found.from_seeds is None and found.from_images > 0


@pytest.mark.parametrize(("effect", "spread", "seeds"), [(1.0, 1.4, 20), (0.5, 0.5, 5), (0, 1, 4)])
def test_power_is_that_of_the_noncentral_t(effect, spread, seeds):
    noncentral = stats.nct(seeds - 1, effect * seeds**0.5 / spread)
    limit = stats.t.ppf(0.975, seeds - 1)
    expected = noncentral.sf(limit) + noncentral.cdf(-limit)
    assert power(effect, spread, seeds) == pytest.approx(expected, abs=0.005)


def test_seeds_needed():
    assert seeds_needed(1.0, 1.0) == 10  # tables of the paired t-test
    assert seeds_needed(0.01, 1.0) is None
    assert seeds_needed(0.1, 0.0) == 2
