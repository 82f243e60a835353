"""A folder is replaced whole, whatever kills the process meanwhile."""

import os

import pytest
from killing import in_a_killed_child

from carsam.formats.folders import sole_writer, standing, whole_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def write(folder, content):
    with whole_folder(folder) as partial:
        (partial / "one").write_text(content)
        (partial / "two").write_text(content)


def content(folder) -> str:
    """The content of a folder that is whole."""
    one, two = ((folder / name).read_text() for name in ("one", "two"))
    assert one == two
    return one


def kill_at_rename(folder, number, after):
    """Replace a folder in a process that is killed before or after a rename."""

    def action(kill):
        rename, calls = os.rename, []

        def dies(*paths):
            calls.append(paths)
            if len(calls) == number and not after:
                kill()
            rename(*paths)
            if len(calls) == number:
                kill()

        os.rename = dies
        write(folder, "new")

    in_a_killed_child(action)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_kill_while_a_folder_is_replaced_leaves_one_of_the_two(tmp_path, number, after):
    folder = tmp_path / "run"
    write(folder, "old")
    kill_at_rename(folder, number, after)
    assert content(standing(folder)) == ("new" if (number, after) > (2, False) else "old")
    with sole_writer(folder):
        assert content(folder) == ("old" if (number, after) == (1, False) else "new")
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_a_new_folder_appears_leaves_all_or_nothing(tmp_path, after):
    folder = tmp_path / "run"
    kill_at_rename(folder, 1, after)
    with sole_writer(folder):
        assert folder.exists() == after
    assert list(tmp_path.iterdir()) == ([folder] if after else [])


def test_a_kill_while_the_old_folder_is_removed_leaves_the_new_one(tmp_path):
    folder = tmp_path / "run"
    write(folder, "old")

    def action(kill):
        import shutil

        def dies(path, **_):
            if path.exists():
                os.unlink(path / "one")
                kill()

        shutil.rmtree = dies
        write(folder, "new")

    in_a_killed_child(action)
    assert content(standing(folder)) == "new"
    write(folder, "newer")
    assert content(folder) == "newer"
    assert list(tmp_path.iterdir()) == [folder]


def test_an_error_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "run"
    write(folder, "old")
    with pytest.raises(KeyError), whole_folder(folder) as partial:
        (partial / "one").write_text("half")
        raise KeyError
    assert content(folder) == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_name_may_hold_anything(tmp_path):
    folder = tmp_path / "run {0} HOLDER [a] (b)+"
    write(folder, "old")
    write(folder, "new")
    assert content(folder) == "new"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_linked_folder_is_replaced_where_it_is(tmp_path):
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk" / "run", "old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "disk" / "run") == "new"


def test_neighbours_with_like_names_are_left_alone(tmp_path):
    names = ("run-2", ".run-2.part-abcdefgh", ".run.part-2", "run.part-abcdefgh", ".runs.old")
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".run.part-abcdefgh").mkdir()  # what a kill left
    write(tmp_path / "run", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"run", *names}
