"""How well objects are still followed after so many frames: whether errors feed on themselves."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any


def by_frame(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Return the mean of J and F, in percent, at every judged frame after the prompt.

    It goes as far as every object has frames, so that all numbers are of the same objects.

    Returns:
        Means over objects, sequences and seeds, by recipe and bits; of results with videos.
    """
    followed: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for result in results:
        key = result["cell"]["recipe"], result["cell"]["bits"]
        for sequence in result.get("davis", {}).get("sequences", ()):
            for measured in sequence["objects"].values():
                pairs = zip(measured["J"]["frames"], measured["F"]["frames"], strict=True)
                followed[key].append([50 * (j + f) for j, f in pairs])
    return {
        key: [sum(frame) / len(frame) for frame in zip(*objects, strict=False)]
        for key, objects in followed.items()
    }
