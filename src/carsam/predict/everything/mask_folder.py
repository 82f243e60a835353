"""A folder with the masks of many images, which grows image by image and is gone on with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carsam.errors import UserError
from carsam.formats.files import check_writable, write_whole
from carsam.formats.folders import whole_folder
from carsam.images.drawing import mask_picture
from carsam.images.run_lengths import RunLengths
from carsam.predict.everything.candidates import Candidate
from carsam.predict.everything.generator import record

SETTINGS_FILE = "carsam-masks.json"
ADVICE = "Choose another folder, or make room."


class MaskFolder:
    """One json for each image, as in the SA-1B data set, and, if asked for, one PNG for each mask.

    An image's json is written last: where it stands, the image is finished.

    Args:
        folder: made when the first image is written.
        settings: what decides which masks there are. They are kept in the folder, so that masks
            of different settings do not mix.
        pictures: write PNGs too, to `NAME.masks/`.

    Raises:
        UserError: the folder holds masks of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], pictures: bool = False) -> None:
        self.folder, self._pictures = folder, pictures
        self._settings = {**settings, "pictures": pictures}
        path = folder / SETTINGS_FILE
        if path.exists():
            self._compare(path)

    @staticmethod
    def check(folder: Path) -> None:
        """Refuse, before any work, a folder that cannot be written; it is not made yet.

        Raises:
            UserError: it cannot be written.
        """
        check_writable(folder / SETTINGS_FILE, ADVICE)

    def has(self, name: str) -> bool:
        """Tell whether an image, named with its folders and ending, is finished."""
        return self._path(name).exists()

    def write(self, name: str, size: tuple[int, int], found: Sequence[Candidate]) -> None:
        """Write the masks of an image.

        Args:
            size: its height and width.

        Raises:
            UserError: they cannot be written.
        """
        if not (self.folder / SETTINGS_FILE).exists():
            write_whole(self.folder / SETTINGS_FILE, _json(self._settings), ADVICE)
        path = self._path(name)
        if self._pictures:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_folder(path.with_name(f"{Path(name).name}.masks")) as pictures:
                for number, each in enumerate(found):
                    mask_picture(each.mask.mask()).save(pictures / f"{number:04d}.png")
        image = {"file_name": name, "height": size[0], "width": size[1]}
        annotations = [
            {"id": number, **record(each, RunLengths.compressed)}
            for number, each in enumerate(found)
        ]
        write_whole(path, _json({"image": image, "annotations": annotations}), ADVICE)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _compare(self, path: Path) -> None:
        try:
            kept = json.loads(path.read_bytes())
            different = {name for name in self._settings if kept[name] != self._settings[name]}
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged. Choose another folder, or delete it.") from error
        if different:
            raise UserError(
                f"{self.folder} holds masks made with another value of "
                f"{', '.join(sorted(different))}. Choose another folder, or delete it."
            )


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content) + "\n"
