import shutil
from pathlib import Path

import pytest

from carsam.cli import main


@pytest.fixture
def page(request, kept, tmp_path) -> Path:
    """A report with photos and a diagnosis."""
    page = kept / "report.html"
    if not page.exists():
        run, images = map(request.getfixturevalue, ("run", "image_folder"))
        photos = ["--images", str(images), "--count", "2", "--quiet"]
        assert main(["doctor", str(run), *photos, "--out", str(kept / "doctor")]) == 0
        doctor = ["--doctor", str(kept / "doctor")]
        assert main(["report", str(run), *photos, *doctor, "--out", str(page)]) == 0
    return Path(shutil.copy(page, tmp_path))
