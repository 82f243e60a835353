"""Two methods on the same prompts and seeds: the difference, how sure it is, and how many seeds.

Seeds and groups of images are crossed: every seed answers every prompt. A group is what is not
independent, such as the frames of one video; an image by itself is a group of one.
"""

from dataclasses import dataclass

import numpy as np

from carsam.evaluation.bootstrap import LEVEL, Interval, centred_interval

POWER = 0.8
MOST_SEEDS = 200
SIMULATIONS = 200_000


@dataclass(frozen=True)
class Paired:
    """The mean difference of two methods, and what makes it vary.

    Args:
        mean: over prompts and seeds.
        by_seed: mean over prompts, of every seed.
        interval: 95 % bootstrap interval; both groups and seeds are drawn.
        from_seeds: variance of the mean with one seed, were the images always these.
        from_images: variance of the mean with other images, however many seeds there are.
    """

    mean: float
    by_seed: tuple[float, ...]
    interval: Interval
    from_seeds: float | None
    from_images: float | None


def paired(
    method: np.ndarray,
    baseline: np.ndarray,
    group: np.ndarray,
    *,
    resamples: int = 4000,
    seed: int = 0,
) -> Paired:
    """Compare two methods prompt by prompt and seed by seed.

    With one seed nothing is known of others: `from_seeds` is None, and the interval is over images.

    Args:
        method, baseline: (S, N) what was measured with each seed at each prompt.
        group: (N,) position of the prompt's group, from 0.
        resamples: of the bootstrap.
        seed: of its draws.
    """
    differences = method - baseline
    counts = np.bincount(group)  # prompts of each group (G,)
    sums = np.stack([np.bincount(group, row, len(counts)) for row in differences])  # (S, G)
    means = sums.sum(1) / counts.sum()
    mean = float(means.mean())
    random = np.random.default_rng(seed)
    seeds = _draws(random, len(sums), resamples)  # (B, S)
    groups = _draws(random, len(counts), resamples)  # (B, G)
    drawn = np.einsum("bs,sg,bg->b", seeds, sums, groups) / seeds.sum(1) / (groups @ counts)
    interval = centred_interval(drawn, mean)
    assert interval is not None
    from_seeds, from_images = _variances(sums, counts)
    return Paired(mean, tuple(map(float, means)), interval, from_seeds, from_images)


def _draws(random: np.random.Generator, count: int, resamples: int) -> np.ndarray:
    """Return how often each of `count` is drawn: (resamples, count).

    One fewer is drawn than there are, with replacement: then the variance of a resampled mean is
    that of the mean, without bias (McCarthy and Snowden 1985), which matters with three seeds.
    """
    return random.multinomial(max(1, count - 1), np.full(count, 1 / count), size=resamples)


def _variances(sums: np.ndarray, counts: np.ndarray) -> tuple[float | None, float | None]:
    """Return `from_seeds` and `from_images` for sums (S, G) over the prompts of each group.

    With seed effects a, group effects b and what is particular to both, c, the mean over S seeds
    has the variance var(b) + (var(a) + var(c)) / S. The first is what varies between groups after
    averaging over seeds, less the part of c that averaging has left.
    """
    seeds, groups = sums.shape
    if groups < 2:
        return (float(sums.sum(1).var(ddof=1)) / counts.sum() ** 2 if seeds > 1 else None), None
    centred = sums - sums.sum(1, keepdims=True) / counts.sum() * counts  # no mean of any seed
    scale = groups / (groups - 1) / counts.sum() ** 2
    between = float((centred.mean(0) ** 2).sum()) * scale
    if seeds < 2:
        return None, between
    particular = float((centred.var(0, ddof=1)).sum()) * scale
    from_seeds = float((sums.sum(1) / counts.sum()).var(ddof=1))
    return from_seeds, max(0.0, between - particular / seeds)


def power(effect: float, spread: float, seeds: int, level: float = LEVEL) -> float:
    """Return how probably a two-sided paired t-test over seeds sees an effect.

    Args:
        effect: true mean difference.
        spread: standard deviation of one seed's difference.
        seeds: how many there are, at least 2.
        level: 1 minus the probability of seeing one that is not there.

    Returns:
        The probability, from `SIMULATIONS` draws that are the same in every call.
    """
    random = np.random.default_rng(seeds)
    normal = random.standard_normal(SIMULATIONS)
    root = np.sqrt(random.chisquare(seeds - 1, SIMULATIONS) / (seeds - 1))
    limit = np.quantile(np.abs(normal) / root, level)
    return float((np.abs(normal + effect * seeds**0.5 / spread) / root > limit).mean())


def seeds_needed(effect: float, spread: float, wanted: float = POWER) -> int | None:
    """Return the fewest seeds with which `power` is as wanted; None beyond `MOST_SEEDS`."""
    if spread == 0:
        return 2
    low, high = 1, MOST_SEEDS  # too few, enough
    if power(effect, spread, high) < wanted:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if power(effect, spread, middle) >= wanted:
            high = middle
        else:
            low = middle
    return high
