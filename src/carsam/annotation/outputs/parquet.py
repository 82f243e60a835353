"""Results as a table: a row for each mask, and one for each image or box without a mask."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from carsam.annotation.items import Annotations
from carsam.annotation.outputs.base import About
from carsam.annotation.outputs.coco import bbox, category_name, category_of
from carsam.evaluation.ids import Id


def content(found: Annotations, about: About) -> bytes:
    """Return a parquet file. Ids are text, as a json may have any; `info` is in the metadata."""
    import json

    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: pa.string() for name in ("image_id", "file_name")}
    columns |= {name: pa.int32() for name in ("width", "height")}
    columns |= {name: pa.string() for name in ("prompt_id", "category_id", "category")}
    columns |= {name: pa.int32() for name in ("x", "y", "box_width", "box_height")}
    columns |= {"area": pa.int64(), "score": pa.float32()}
    columns |= {name: pa.float32() for name in ("detection_score", "stability_score")}
    columns |= {"counts": pa.string(), "error": pa.string()}
    info = {"carsam": json.dumps(dict(about.info))}
    table = pa.Table.from_pylist(list(_rows(found, about)), pa.schema(columns, info))
    buffer = BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _rows(found: Annotations, about: About) -> Iterator[dict[str, Any]]:
    sizes = {image.id: image for image in found.images}
    empty = set(sizes) - {mask.image_id for mask in found.masks}
    for identity in [image.id for image in found.images if image.id in empty]:
        yield _image(found, identity)
    for mask in found.masks:
        x, y, width, height = bbox(mask)
        yield {
            **_image(found, mask.image_id),
            "prompt_id": _text(mask.prompt_id),
            "category_id": str(category_of(mask)),
            "category": category_name(mask, about.categories),
            "x": x,
            "y": y,
            "box_width": width,
            "box_height": height,
            "area": mask.mask.area,
            "score": mask.score,
            "detection_score": mask.detection_score,
            "stability_score": mask.stability_score,
            "counts": mask.mask.compressed()["counts"],
        }
    for error in found.errors:
        yield {
            "image_id": _text(error.image_id),
            "file_name": error.file_name,
            "prompt_id": _text(error.prompt_id),
            "error": error.error,
        }


def _image(found: Annotations, identity: Id) -> dict[str, Any]:
    image = next(image for image in found.images if image.id == identity)
    return {
        "image_id": str(identity),
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
    }


def _text(identity: Id | None) -> str | None:
    return None if identity is None else str(identity)
