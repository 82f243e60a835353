import pytest

from carsam.hugging_face import export


@pytest.fixture
def folder(run, tmp_path):
    export(run, tmp_path / "exported")
    return tmp_path / "exported"
