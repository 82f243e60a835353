"""Sources give the same images, wherever they lie, and say what is wrong with what they lie in."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from carsam.annotation.sources import find_source
from carsam.errors import UserError
from carsam.progress import Silent

SIZE = 2


@pytest.fixture
def files():
    """Names of five images, and their bytes."""
    found = {}
    for index in range(5):
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 5, 3), index, np.uint8)).save(buffer, "PNG")
        found[f"{index:06}.png"] = buffer.getvalue()
    return found


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def read(path, images=None, wanted=lambda item: True):
    """What a source gives: for each part the names, ids, numbers and bytes of its images."""
    parts = find_source(str(path), images).parts(SIZE, wanted, Silent())
    return [[(item, reader()) for item, reader in part] for part in parts]


def contents(parts):
    return {item.name: content for part in parts for item, content in part}


def test_a_folder_gives_its_images_in_order(tmp_path, files):
    (tmp_path / "sub").mkdir()
    for name, content in files.items():
        (tmp_path / "sub" / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("no image")
    parts = read(tmp_path)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert contents(parts) == {f"sub/{name}": content for name, content in files.items()}
    assert [item.number for part in parts for item, _ in part] == [1, 2, 3, 4, 5]


def test_images_that_are_not_wanted_are_in_no_part(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    parts = read(tmp_path, wanted=lambda item: item.name > "000001.png")
    assert [[item.number for item, _ in part] for part in parts] == [[3, 4], [5]]


def test_a_coco_json_gives_its_images_with_their_ids(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    images = [
        {"id": 70 + index, "file_name": f"train/{name}", "width": 5, "height": 4}
        for index, name in enumerate(files)
    ]
    document = {"images": images, "annotations": [], "categories": []}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    parts = read(tmp_path / "instances.json")
    assert [item.id for part in parts for item, _ in part] == [70, 71, 72, 73, 74]
    assert list(contents(parts).values()) == list(files.values())
    assert {item.size for part in parts for item, _ in part} == {(4, 5)}


def test_an_image_that_is_missing_is_said_when_it_is_read(tmp_path, files):
    (tmp_path / "a.png").write_bytes(files["000000.png"])
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    (tmp_path / "i.json").write_text(json.dumps({"images": images, "annotations": []}))
    with pytest.warns(UserWarning, match="not in the folder"):
        (part,) = find_source(str(tmp_path / "i.json")).parts(SIZE, lambda item: True, Silent())
    readers = [reader for _, reader in part]
    assert readers[0]() == files["000000.png"]
    with pytest.raises(UserError, match=r"Cannot read image b\.png: it is not in"):
        readers[1]()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_file_is_one_part(tmp_path, files, mode):
    path = tmp_path / ("a.tar" if mode == "w" else "a.tar.gz")
    others = {"000000.json": b"{}", "._000000.png": b"of a file system", "000000.cls": b"7"}
    write_tar(path, {**files, **others}, mode)
    (part,) = read(path)
    assert contents([part]) == files
    assert [item.number for item, _ in part] == [1, 2, 3, 4, 5]


def test_shards_that_webdataset_writes_are_read(tmp_path, files):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(tmp_path / "%06d.tar"), maxcount=3, verbose=0) as writer:
        for number, (name, content) in enumerate(files.items()):
            writer.write({"__key__": name.removesuffix(".png"), "png": content, "cls": number})
    parts = read(tmp_path)
    assert [len(part) for part in parts] == [3, 2]
    assert contents(parts) == files


def test_several_tar_files_number_their_images_apart(tmp_path, files):
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, files)
    for path in (tmp_path, tmp_path / "*.tar"):
        parts = read(path)
        assert [len(part) for part in parts] == [5, 5]
        assert len({item.number for part in parts for item, _ in part}) == 10


@pytest.mark.parametrize("length", [1024, 1200, 2048, 2500, 2600])
def test_a_tar_file_cut_short_gives_what_it_has(tmp_path, files, length):
    write_tar(tmp_path / "a.tar", files)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:length])
    (part,) = find_source(str(tmp_path / "a.tar")).parts(SIZE, lambda item: True, Silent())
    given = iter(part)
    for index in range(length // 1024):
        assert next(given)[0].name == f"{index:06}.png"
    with pytest.raises(UserError, match=r"a\.tar is no whole tar file"):
        list(given)


@pytest.mark.parametrize("content", [b"", b"no tar", b"no tar" * 1000])
def test_what_is_no_tar_file_is_named(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    (part,) = find_source(str(tmp_path / "a.tar")).parts(SIZE, lambda item: True, Silent())
    with pytest.raises(UserError, match="no whole tar file"):
        list(part)


@pytest.mark.parametrize("form", ["bytes", "struct", "path"])
def test_parquet_rows_are_images_by_any_usual_column(tmp_path, files, form):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    columns = {
        "bytes": {"jpg": list(files.values()), "__key__": list(files), "image_id": range(10, 15)},
        "struct": {
            "image": [{"bytes": content, "path": name} for name, content in files.items()],
            "id": range(10, 15),
        },
        "path": {"file_name": list(files), "id": range(10, 15)},
    }[form]
    table = pa.table({name: list(values) for name, values in columns.items()})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    parts = read(tmp_path)
    assert [len(part) for part in parts] == [2, 1, 2]
    assert contents(parts) == files
    assert [item.id for part in parts for item, _ in part] == [10, 11, 12, 13, 14]


def test_rows_without_names_are_named_by_their_place(tmp_path, files):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"image": [*files.values(), None]}), tmp_path / "a.parquet")
    (*_, part) = find_source(str(tmp_path)).parts(SIZE, lambda item: True, Silent())
    (item, _), (_, last) = part
    assert (item.name, item.id, item.number, item.named) == ("a.parquet#5", None, 5, False)
    with pytest.raises(UserError, match=r"a\.parquet#6: its row holds NoneType"):
        last()


def test_columns_that_hold_no_image_are_named(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has the columns text; expected images in a column named"):
        read(tmp_path)


def test_a_damaged_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match=r"Cannot read .*a\.parquet"):
        read(tmp_path)


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_urls_give_what_folders_give(tmp_path, files, form):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    root = f"/{tmp_path.name}"
    if form == "folder":
        for name, content in files.items():
            memory.pipe_file(f"{root}/sub/{name}", content)
        expected = {f"sub/{name}": content for name, content in files.items()}
    else:
        expected = files
        if form == "tar":
            write_tar(tmp_path / "a.tar", files)
        else:
            pa = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            table = pa.table({"image": list(files.values()), "file_name": list(files)})
            parquet.write_table(table, tmp_path / "a.parquet")
        memory.pipe_file(f"{root}/a.{form}", (tmp_path / f"a.{form}").read_bytes())
    assert contents(read(f"memory:/{root}")) == expected


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("nowhere", {}, "does not exist; expected a folder of images, a COCO .json"),
        ("note.txt", {}, "is a file; expected a folder of images"),
        ("none-*.tar", {}, "Found no file"),
        ("empty", {}, "Found no image in"),
        ("empty", {"images": "x"}, "--images belongs to a COCO json"),
    ],
)
def test_what_is_no_source_is_said(tmp_path, path, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match=message):
        read(tmp_path / path, **options)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://bucket/a", "Cannot reach nonsense://bucket/a"),
        ("memory://nothing-there", "Found no image in memory://nothing-there"),
        ("memory://a/instances.json", "must be a file of this machine"),
    ],
)
def test_urls_that_lead_nowhere_are_named(url, message):
    pytest.importorskip("fsspec")
    with pytest.raises(UserError, match=message):
        read(url)
