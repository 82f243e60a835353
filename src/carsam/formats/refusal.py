"""A tensor that keeps other programs from taking a run's weights for those of a float model.

For a weight that a file lacks transformers draws random numbers, and says so in its log only; a
tensor of another shape than the model's it refuses. So a run holds a tensor without numbers under
the name of one of its quantized weights, the first in the alphabet.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def refusing_tensors(sites: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return that tensor by its name; none where no weight is quantized.

    Args:
        sites: the manifest's, by path.
    """
    names = sorted(f"{path}.weight" for path, site in sites.items() if site["weight"] is not None)
    return {name: np.empty(0, np.float32) for name in names[:1]}
