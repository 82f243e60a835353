"""Quantized models in transformers: import this module before `from_pretrained`.

    import carsam.hugging_face
    from transformers import AutoModelForMaskGeneration

    model = AutoModelForMaskGeneration.from_pretrained(FOLDER)

FOLDER is what `carsam export RUN --hf FOLDER`, or `save_pretrained` of such a model, has written.
"""

from carsam.hugging_face.folder import export
from carsam.hugging_face.quantizer import CarsamConfig, CarsamQuantizer

__all__ = ["CarsamConfig", "CarsamQuantizer", "export"]
