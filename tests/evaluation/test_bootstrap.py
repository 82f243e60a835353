import numpy as np
import pytest

from carsam.evaluation.bootstrap import centred_interval, resample_weights, weighted_means


def test_every_resample_draws_as_many_images_as_there_are():
    assert (resample_weights(17, 50, seed=0).sum(axis=1) == 17).all()


def test_draws_repeat_with_the_seed():
    assert np.array_equal(resample_weights(9, 5, seed=3), resample_weights(9, 5, seed=3))
    assert not np.array_equal(resample_weights(9, 5, seed=3), resample_weights(9, 5, seed=4))


def test_image_drawn_twice_counts_twice():
    values, image = np.array([0.2, 0.4, 0.9]), np.array([0, 0, 1])
    means = weighted_means(values, image, np.array([[1, 1], [2, 0], [1, 2]]))
    assert means == pytest.approx([0.5, 0.3, (0.2 + 0.4 + 0.9 + 0.9) / 4])


def test_resample_without_instances_has_no_mean():
    assert np.isnan(weighted_means(np.array([0.5]), np.array([0]), np.array([[0, 2]])))


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    generator = np.random.default_rng(0)
    values = generator.normal(0.6, 0.1, 400)
    weights = resample_weights(400, 4000, seed=0)
    means = weighted_means(values, np.arange(400), weights)
    lower, upper = centred_interval(means, values.mean())
    assert upper - lower == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)
    assert lower + upper == pytest.approx(2 * values.mean(), abs=1e-3)


def test_interval_is_centred_on_the_estimate():
    resampled = np.random.default_rng(0).normal(0.7, 0.01, 1000)
    lower, upper = centred_interval(resampled, 0.5)
    assert lower < 0.5 < upper


def test_nothing_known_has_no_interval():
    assert centred_interval(np.array([np.nan]), 0.5) is None
    assert centred_interval(np.array([]), 0.5) is None
    assert centred_interval(np.array([0.5]), None) is None
