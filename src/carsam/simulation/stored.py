"""What a checkpoint keeps of parts that stay float: fp16.

Steps that change such parts store them through here, so that what is calibrated and evaluated is
exactly what is loaded later.
"""

from torch import Tensor


def as_stored(values: Tensor) -> Tensor:
    """Return values as a checkpoint keeps them: rounded to fp16, in float32."""
    return values.half().float()


def store_(parameter: Tensor, values: Tensor) -> None:
    """Give a parameter that stays float its values, as a checkpoint keeps them."""
    parameter.data.copy_(as_stored(values))
