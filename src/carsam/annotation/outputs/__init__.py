"""Forms of results by name; a new one is a line here and a file beside it."""

from carsam.annotation.outputs import coco, label_studio, parquet
from carsam.annotation.outputs.base import Output
from carsam.errors import UserError
from carsam.extras import require

OUTPUTS = {
    "coco": Output(".json", coco.rle_content),
    "coco-polygons": Output(".json", coco.polygon_content),
    "label-studio": Output(".json", label_studio.content),
    "parquet": Output(".parquet", parquet.content, ("pyarrow",)),
}


def find_output(name: str) -> Output:
    """Return the form of that name; UserError names the known ones, or the missing package."""
    if name not in OUTPUTS:
        raise UserError(f"Unknown format {name!r}; expected one of {', '.join(OUTPUTS)}.")
    if OUTPUTS[name].packages:
        require("annotate", *OUTPUTS[name].packages)
    return OUTPUTS[name]
