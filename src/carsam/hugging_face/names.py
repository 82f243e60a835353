"""What the writer and the reader of a folder for transformers agree on."""

METHOD = "carsam"
"""The `quant_method` of its configuration."""

ENGINE_KEY = "engine"
"""Of its configuration, so that `from_pretrained(FOLDER, engine="native")` can replace it."""

ENGINES = ("simulated", "native")

IMPORT_FIRST = "the model is quantized by CAR-SAM, so `import carsam.hugging_face` first"
"""Stands in place of a file name, which transformers repeats in its error."""
