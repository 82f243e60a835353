import dataclasses

import numpy as np
import pytest

from carsam.evaluation import masks
from carsam.evaluation.agreement import agreement, mean_by_size, rank_correlation
from carsam.evaluation.stream import Prediction


@pytest.fixture
def run():
    """Three predictions: columns 0 to 1, 0 to 3 and 0 to 5 of 4 x 8 pixels."""
    columns = np.arange(8)
    return [
        Prediction(1, 1, None, masks.encode(np.tile(columns < width, (4, 1))), iou, iou, None, None)
        for width, iou in ((2, 0.5), (4, 0.7), (6, 0.9))
    ]


def test_run_agrees_with_itself(run):
    found = agreement(run, run)
    assert found.mask_ious.tolist() == [1, 1, 1]
    assert found.rank_correlation == pytest.approx(1)


def test_masks_are_compared_prompt_by_prompt(run):
    other = [dataclasses.replace(prediction, rle=run[0].rle) for prediction in run]
    assert agreement(run, other).mask_ious == pytest.approx([1, 1 / 2, 1 / 3])


def test_runs_of_different_prompts_are_refused(run):
    with pytest.raises(ValueError, match="shorter"):
        agreement(run, run[:2])


@pytest.mark.parametrize("distinct", [5, 10**6])
def test_rank_correlation_is_scipys(distinct):
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, distinct, (2, 60)).astype(float)
    expected = stats.spearmanr(first, second).statistic
    assert rank_correlation(first, second) == pytest.approx(expected)


def test_constant_series_have_no_rank_correlation():
    assert rank_correlation(np.ones(4), np.arange(4.0)) is None


def test_means_by_size():
    means = mean_by_size(np.array([0.2, 0.4, 0.9]), ["small", "small", "large"])
    assert means == {"small": pytest.approx(0.3), "medium": None, "large": 0.9}
