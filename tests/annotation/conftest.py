"""Small photos with boxes, and the command that annotates them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from carsam.annotation.annotate import Summary, annotate
from carsam.images.scenes import write_scenes

MODEL = "sam-mini-w4a4"
IMAGES = 6


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """Folder with `instances.json` and `images/`, of which the objects have names."""
    path = write_scenes(tmp_path_factory.mktemp("scenes"), IMAGES, seed=1, size=96)
    document = json.loads(path.read_text())
    document["categories"] = [{"id": 1, "name": "shape"}, {"id": 2, "name": "other"}]
    kept = {}
    for annotation in document["annotations"]:  # three of each image
        kept.setdefault(annotation["image_id"], []).append(annotation)
    document["annotations"] = [each for some in kept.values() for each in some[:3]]
    path.write_text(json.dumps(document))
    return path.parent


@pytest.fixture
def annotated(scenes, tmp_path) -> Callable[..., Summary]:
    """Function that annotates the scenes into `tmp_path / "out"` with one worker."""

    def annotated(source=scenes / "instances.json", out=tmp_path / "out", **options) -> Summary:
        if str(source).endswith(".json"):
            options.setdefault("images", str(scenes / "images"))
        options = {"jobs": 1, "shard_size": 2, **options}
        return annotate(MODEL, str(source), str(out), **options)

    return annotated
