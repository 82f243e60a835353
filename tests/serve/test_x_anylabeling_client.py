"""X-AnyLabeling's own client, unchanged but for its window, gets polygons from the server."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
from serving import photo_file

BOX = {"type": "rectangle", "data": [30, 18, 90, 72], "label": 1}


class Model:
    """Stands for the base class, which downloads files and needs Qt."""

    def __init__(self, config, on_message):
        self._config, self.config, self.on_message = config, config, on_message


class Shape(SimpleNamespace):
    """Stands for what the window draws."""

    def add_point(self, point):
        self.__dict__.setdefault("points", []).append(point)


def module(name: str, **parts) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(parts)
    return made


@pytest.fixture
def remote(client, monkeypatch):
    """The client's class."""
    pytest.importorskip("cv2")
    pytest.importorskip("requests")
    folder = client("x-anylabeling")
    auto = "anylabeling.services.auto_labeling"
    views = "anylabeling.views.labeling"
    core = SimpleNamespace(QPointF=lambda x, y: (x, y))
    translate = SimpleNamespace(translate=lambda _, text: text)
    results = SimpleNamespace(AutoLabelingResult=lambda shapes, **more: (shapes, more))
    for made in (
        module("PyQt6", QtCore=core),
        module("PyQt6.QtCore", QCoreApplication=translate),
        module("PyQt6.QtWidgets", QApplication=None),
        module("anylabeling"),
        module("anylabeling.services"),
        module(auto, __path__=[str(folder.joinpath(*auto.split(".")))]),
        module(f"{auto}.model", Model=Model),
        module(f"{auto}.types", **vars(results)),
        *map(module, ("anylabeling.views", views, f"{views}.utils")),
        module(f"{views}.shape", Shape=Shape),
        module(f"{views}.logger", logger=importlib.import_module("logging").getLogger("x")),
        module(f"{views}.utils.opencv", qt_img_to_rgb_cv_img=None),
    ):
        monkeypatch.setitem(sys.modules, made.__name__, made)
    name = f"{auto}.remote_server"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name).RemoteServer
    sys.modules.pop(name, None)


def test_the_client_lists_the_model_and_gets_shapes(remote, server, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(photo_file(1))
    said = []
    address = {"server_url": f"http://{server.host}:{server.port}", "api_key": ""}
    client = remote({"remote_server_settings": address, "timeout": 60}, said.append)
    (model,) = client.get_available_models()
    client.set_model_id(model)
    assert client.get_batch_processing_mode() is None  # a click for every image
    client.set_auto_labeling_marks([BOX])
    shapes, more = client.predict_shapes("image", str(photo))
    assert said == []
    assert more == {"replace": False, "description": ""}
    assert shapes[0].label == "AUTOLABEL_OBJECT"
    assert len(shapes[0].points) > 3
    assert 0 <= shapes[0].score <= 1
