"""What the user named: each answer needs neither torch nor a readable model."""

from pathlib import Path

import pytest

from carsam.errors import UserError
from carsam.formats.model_paths import find_float_model, find_run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder, *names, content="{}"):
    """Make a folder with files of no meaning."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def run(place):
    folder = fill(place / "run", "carsam.json", "model.safetensors")
    (folder / "carsam.json").write_text('{"source": "my-sam"}')
    return Path("run")


@pytest.fixture
def float_folder(place):
    fill(place / "sam", "config.json", "model.safetensors")
    return Path("sam")


def refused(find, source, *words):
    with pytest.raises(UserError) as caught:
        find(source)
    for word in words:
        assert word in str(caught.value)


def test_a_run_is_found(run):
    assert find_run(run) == run


def test_a_run_with_a_plain_config_beside_it_is_a_run(run):
    (run / "config.json").write_text("{}")
    assert find_run(run) == run
    refused(find_float_model, run, "run is a run of `carsam quantize`")


def test_a_run_is_no_float_model_and_names_the_one_it_was_made_from(run):
    refused(find_float_model, run, "run is a run of `carsam quantize`", "(my-sam)")


def test_a_run_that_cannot_be_read_is_still_named(run):
    (run / "carsam.json").write_text("{")
    refused(find_float_model, str(run), "run is a run of `carsam quantize`")


@pytest.mark.parametrize("find", [find_run, find_float_model])
@pytest.mark.parametrize("file", ["carsam.json", "model.safetensors"])
def test_a_file_of_a_run_leads_to_its_folder(run, find, file):
    refused(find, run / file, f"{run / file} is a file of the run run.", "my-sam")


def test_other_weights_in_the_folder_of_a_run_may_be_a_float_model(run):
    (run / "sam.pth").write_text("x")
    assert find_float_model(run / "sam.pth") == run / "sam.pth"


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("", "sam is a float model of transformers"),
        ("config.json", "sam/config.json is a file of the float model sam"),
        ("model.safetensors", "sam/model.safetensors is a file of the float model sam"),
    ],
)
def test_a_float_folder_is_no_run(float_folder, file, found):
    refused(find_run, float_folder / file, found, "holds carsam.json", "`carsam quantize`")


def test_a_file_of_weights_is_no_run(place):
    (place / "sam.PTH").write_text("x")
    refused(find_run, "sam.PTH", "sam.PTH is a file of weights, not a run")


def test_the_bundled_model_is_no_run(place):
    refused(find_run, "sam-mini", "sam-mini is a bundled float model, not a run")


def test_a_folder_above_a_run_names_it(run):
    refused(find_run, ".", "There is a run in run.")


def test_a_bundled_run_is_found_by_name(place):
    assert (find_run("sam-mini-w4a4") / "carsam.json").is_file()


def test_a_bundled_run_is_no_float_model(place):
    refused(find_float_model, "sam-mini-w4a4", "is a run of `carsam quantize`", "(sam-mini)")


def test_a_mistyped_bundled_run_is_named(place):
    refused(find_run, "sam-mini-w4a8", "Did you mean sam-mini-w4a4")


def test_a_float_folder_is_found(float_folder):
    assert find_float_model("sam/") == float_folder


def test_a_configuration_is_no_float_model(float_folder):
    refused(find_float_model, "sam/config.json", "holds no weights; give its folder")


@pytest.mark.parametrize(
    "weights",
    ["model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"],
)
def test_all_names_of_transformers_count_as_weights(place, weights):
    folder = fill(place / "sam", "config.json", weights)
    assert find_float_model(folder) == folder


@pytest.mark.parametrize("source", ["sam-mini", Path("sam-mini")])
def test_the_bundled_model_is_found_by_name(place, source):
    assert find_float_model(source) == "sam-mini"


def test_a_folder_with_the_bundled_name_is_given_by_its_path(place):
    fill(place / "sam-mini", "config.json", "model.safetensors")
    assert find_float_model("sam-mini") == "sam-mini"
    assert find_float_model(Path("sam-mini")) == Path("sam-mini")


@pytest.mark.parametrize("source", ["facebook/sam-vit-base", "a_b/c.d-2.1", Path("owner/name")])
def test_a_name_with_an_owner_is_a_hugging_face_id(place, source):
    assert find_float_model(source) == str(source)


@pytest.mark.parametrize(
    "source",
    [
        "./owner/name",
        "/owner/name",
        "owner/name/part",
        "owner/name/",
        "../name",
        "owner/sam.pth",
        "owner/SAM.SAFETENSORS",
        "owner/config.json",
        "name",
    ],
)
def test_a_path_that_is_not_there_is_no_hugging_face_id(place, source):
    refused(find_float_model, source, f"There is no file or folder {source}.")


def test_a_folder_with_the_owners_name_makes_it_a_path(place):
    fill(place / "models", "sam_vit_b.pth")
    refused(find_float_model, "models/sam-b", "There is no file or folder models/sam-b.")


@pytest.mark.parametrize("find", [find_run, find_float_model])
@pytest.mark.parametrize(
    ("source", "near"),
    [
        ("models/sam_vit_b.pht", "models/sam_vit_b.pth"),
        ("models/SAM_VIT_B.PTH", "models/sam_vit_b.pth"),
        ("./model/sam_vit_b.pth", "models"),
    ],
)
def test_a_mistyped_path_names_what_is_like_it(place, find, source, near):
    fill(place / "models", "sam_vit_b.pth", "other.txt")
    refused(find, source, f"no file or folder {source}.", f"Did you mean {near}?")


def test_a_mistyped_bundled_name_names_it(place):
    refused(find_float_model, "sam_mini", "Did you mean sam-mini or sam2-mini or sam-mini-w4a4?")


def test_what_stands_there_instead_is_named(place):
    fill(place / "models", "a.pth", "b.pth")
    refused(find_float_model, "models/zebra", "models holds a.pth, b.pth.")


def test_the_first_folder_that_is_not_there_is_named(place):
    refused(find_float_model, place / "no" / "such" / "sam.pth", f"{place / 'no'} is not there")


def test_a_path_through_a_file_is_named(place):
    (place / "sam.pth").write_text("x")
    refused(find_float_model, "sam.pth/model", "sam.pth is a file, not a folder")


def test_a_broken_link_is_named(place):
    (place / "sam.pth").symlink_to("moved.pth")
    refused(find_float_model, "sam.pth", "sam.pth is a link to moved.pth, which is not there")


@pytest.mark.parametrize("source", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_not_there(place, source):
    refused(find_float_model, source, "There is no file or folder")


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_name_is_refused(place, source):
    refused(find_float_model, source, "The name of the model is empty")


def test_an_address_is_refused(place):
    refused(find_float_model, "https://example.org/sam.pth", "is an address; download the model")


def test_what_is_no_regular_file_is_refused(place):
    refused(find_float_model, "/dev/null", "neither a file nor a folder")


def test_an_empty_folder_is_refused(place):
    refused(find_float_model, place, "is an empty folder", "config.json and model.safetensors")


def test_a_folder_of_something_else_is_refused(place):
    fill(place, "a.jpg", "b.jpg")
    refused(find_float_model, place, "is a folder that holds a.jpg, b.jpg;")


def test_a_folder_without_weights_is_refused(place):
    fill(place, "config.json", "tf_model.h5")
    refused(find_float_model, place, "holds config.json but no weights", "tf_model.h5")


def test_a_folder_above_a_model_names_it(float_folder):
    refused(find_float_model, ".", "There is a model in sam.")


def test_files_of_weights_in_a_folder_are_named(place):
    fill(place / "many", *(f"sam_{size}.pth" for size in "bhl"), "d.CKPT")
    words = ("It holds d.CKPT, sam_b.pth, sam_h.pth, sam_l.pth:", "such as many/d.CKPT")
    refused(find_float_model, "many", *words)


def test_weights_without_a_configuration_are_given_by_their_path(place):
    fill(place / "sam", "model.safetensors")
    refused(find_float_model, "sam", "lacks config.json", "such as sam/model.safetensors")


@pytest.mark.parametrize("beside", [(), ("config.json", "model.safetensors")])
def test_a_folder_of_adapters_is_refused(place, beside):
    fill(place / "tuned", "adapter_config.json", "adapter_model.safetensors", *beside)
    refused(find_float_model, "tuned", "holds adapters (LoRA", "merge_and_unload")
