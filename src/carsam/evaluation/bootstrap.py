"""95 % intervals over images: how far a number moves with another draw of as many images."""

import numpy as np

LEVEL = 0.95
"""Share of resamples that lie inside an interval."""

Interval = list[float]
"""Lower and upper end."""


def resample_weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each image is drawn in each resample: (resamples, images) whole numbers.

    Every resample draws as many images as there are, with replacement. The same seed gives the
    same draws, so that two runs on the same images can be compared pair by pair.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples)


def weighted_means(values: np.ndarray, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean over instances of each resample.

    Args:
        values: (N,) one number per instance.
        image: (N,) position of the instance's image.
        weights: (B, I) as `resample_weights` returns them.

    Returns:
        (B,); nan where a resample has no instance.
    """
    images = weights.shape[1]
    sums = weights @ np.bincount(image, values, minlength=images)
    counts = weights @ np.bincount(image, minlength=images)
    return np.divide(sums, counts, out=np.full(len(weights), np.nan), where=counts > 0)


def centred_interval(resampled: np.ndarray, estimate: float | None) -> Interval | None:
    """Return the central `LEVEL` of resampled numbers (B,), moved so that their mean is `estimate`.

    COCO AP is optimistic on few images, and a resample has fewer different images than the sample:
    unmoved, an interval of AP lies too high. `docs/evaluation.md` has measurements.

    Returns:
        Both ends, or None without an estimate or where all of `resampled` is nan.
    """
    known = resampled[~np.isnan(resampled)]
    if estimate is None or len(known) == 0:
        return None
    tail = (1 - LEVEL) / 2
    ends = np.quantile(known, [tail, 1 - tail]) - known.mean() + estimate
    return [float(end) for end in ends]
