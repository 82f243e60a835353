import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image
from tiny_video import write_davis

from carsam.cli import main
from carsam.comparison import jobs
from carsam.comparison.by_frame import by_frame
from carsam.comparison.cell import run_cell
from carsam.comparison.plot import save_cost_plot, save_frame_plot, save_plot
from carsam.comparison.run import Plan, evaluated_names, run_plan
from carsam.comparison.table import Row, about, caption, document, markdown, rows
from carsam.errors import UserError
from carsam.formats.locks import locked
from carsam.images.scenes import write_scenes
from carsam.methods.registry import OPENING_STEPS
from carsam.methods.steps.folding.centre_inputs import CentreInputs
from carsam.progress import Silent
from carsam.system import python_command

END = f"sys.path[:] = {sys.path!r}; from %s import main; main()"


@pytest.fixture
def plan(tiny_sam, tmp_path):
    tiny_sam.save_pretrained(tmp_path / "model")
    evaluated = write_scenes(tmp_path / "evaluated", 2, seed=50, size=64)
    calibration = tmp_path / "calibration"
    calibration.mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(calibration / f"{index}.png")
    return Plan(
        str(tmp_path / "model"),
        ("rtn",),
        ("w8a8", "w2a2"),
        1,
        evaluated,
        evaluated.parent / "images",
        calibration,
        None,
        2,
        (),
        "cpu",
        1,
        "simulated",
        None,
    )


SETTING = "round-to-nearest.weights=minmax"


def result(recipe, bits, seed, ap):
    return {
        "cell": {"recipe": recipe, "bits": bits, "seed": seed},
        "calibration": {"seconds": 10.0 * (seed + 1), "peak_mb": 500},
        "evaluation": {"coco": {"AP": ap}, "mean_iou": 2 * ap},
    }


def test_every_cell_runs_by_itself_and_is_kept(plan, tmp_path):
    plan = replace(plan, settings=(SETTING,))
    results = run_plan(plan, tmp_path / "cells", Silent())
    assert [r["cell"]["recipe"] for r in results] == ["float", "rtn", "rtn"]
    assert [r["cell"]["settings"] for r in results] == [[], [SETTING], [SETTING]]
    assert about(plan, results)["settings"] == [SETTING]
    assert all("error" not in r for r in results)
    assert results[1]["strict"] and results[1]["calibration"]["count"] == 2
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir()}
    assert run_plan(plan, tmp_path / "cells", Silent()) == results
    assert stamps == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir()}


def in_this_process(plan):
    """Results of cells that need no processes of their own, as json gives them."""
    return [json.loads(json.dumps(run_cell(cell))) for cell in plan.cells()]


def test_a_cell_that_fails_is_named_and_the_others_go_on(plan, tmp_path):
    (plan.calibration / "0.png").unlink()
    for path in plan.calibration.iterdir():
        path.write_bytes(b"text")
    with pytest.warns(UserWarning, match=r"rtn-w8a8-seed0 failed: .*intact images"):
        results = run_plan(replace(plan, bits=("w8a8",)), tmp_path / "cells", Silent())
    assert "evaluation" in results[0]
    assert "error" in results[1]


def already_done(cell, folder):
    """Leave a result of the cell, so that it is not begun."""
    folder.mkdir(exist_ok=True)
    done = {"cell": cell.to_json(), "evaluation": {}}
    (folder / f"{cell.name}.result.json").write_text(json.dumps(done))


def test_two_cells_at_a_time_give_the_results_of_one_after_the_other(plan, tmp_path):
    plan = replace(plan, bits=("w8a8",))
    together = run_plan(plan, tmp_path / "together", Silent(), jobs=2)
    alone = in_this_process(plan)
    assert [r["cell"] for r in together] == [r["cell"] for r in alone]
    for result, expected in zip(together, alone, strict=True):
        assert result["evaluation"]["coco"] == expected["evaluation"]["coco"]
        assert result["evaluation"]["mean_iou"] == expected["evaluation"]["mean_iou"]
    assert not list((tmp_path / "together").glob("*seed0.json"))


def test_a_cell_whose_process_is_killed_is_named_and_the_others_go_on(plan, tmp_path, monkeypatch):
    kill = "import os, sys; 'rtn-w8a8' in sys.argv[1] and os.kill(os.getpid(), 9); "
    monkeypatch.setattr(
        jobs, "python_command", lambda name: [*python_command(name)[:-1], kill + END % name]
    )
    already_done(plan.cells()[0], tmp_path / "cells")
    with pytest.warns(UserWarning, match=r"rtn-w8a8-seed0 failed: .*SIGKILL.*memory is short"):
        results = run_plan(plan, tmp_path / "cells", Silent(), jobs=2)
    assert ["evaluation" in result for result in results] == [True, False, True]


def test_no_process_outlives_a_comparison_that_is_stopped(plan, tmp_path, monkeypatch):
    class Stopped(Silent):
        def advance(self, steps=1, note=""):
            raise KeyboardInterrupt

    started, popen = [], jobs.subprocess.Popen

    def watched(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(jobs.subprocess, "Popen", watched)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, tmp_path / "cells", Stopped(), jobs=2)
    assert len(started) >= 2
    assert all(process.poll() is not None for process in started)


def test_two_comparisons_do_not_fill_one_folder(plan, tmp_path):
    with (
        locked(tmp_path / ".lock", "busy"),
        ThreadPoolExecutor(1) as other,
        pytest.raises(UserError, match=f"Another comparison .process {os.getpid()}. writes to"),
    ):
        other.submit(run_plan, plan, tmp_path, Silent()).result()


def settings_of(plan, recipes, *settings):
    cells = replace(plan, recipes=recipes, bits=("w4a4",), settings=settings).cells()
    return {cell.recipe: cell.settings for cell in cells}


@pytest.mark.parametrize(
    ("setting", "fitting"),
    [
        ("polish.steps=8", {"carsam-plus"}),  # after the last unit
        ("feed-back-errors.damping=0.1", {"carsam-plus"}),
        ("reconstruct.steps=8", {"qdrop", "carsam"}),
        (
            "round-to-nearest.weights=minmax",
            {"rtn", "qdrop", "qdrop-legacy", "carsam", "carsam-plus"},
        ),
        ("reconstruct-unfinished.steps=8", {"qdrop-legacy"}),
    ],
)
def test_a_setting_reaches_every_recipe_that_has_its_step(plan, setting, fitting):
    recipes = ("rtn", "qdrop", "carsam", "carsam-plus", "qdrop-legacy")
    found = settings_of(plan, recipes, setting)
    assert {recipe for recipe, settings in found.items() if settings} == fitting


def test_a_setting_reaches_a_step_before_the_first_unit(plan, monkeypatch):
    @dataclass(frozen=True)
    class Centre(CentreInputs):
        images: int = 1

    monkeypatch.setitem(OPENING_STEPS, "centre-inputs", Centre)
    found = settings_of(plan, ("rtn", "carsam-plus"), "centre-inputs.images=2")
    assert found == {"float": (), "rtn": (), "carsam-plus": ("centre-inputs.images=2",)}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("polsh.steps=8", r"called polsh\. Is polish meant\? Their steps are .*feed-back-errors"),
        ("reconstruct.steps=8", r"fits none of the recipes rtn, carsam-plus: no step is called"),
        ("steps=8", "write step.parameter=value"),
        ("polish.stpes=8", "has no parameter stpes; its parameters are .*steps"),
        ("polish.steps=few", "expected a whole number"),
        ("centre-inputs.steps=8", "has no parameter steps; its parameters are none"),
        ("round-to-nearest.weights=best", "Observer best is not known"),
    ],
)
def test_a_setting_that_fits_no_recipe_is_refused(plan, tmp_path, setting, said):
    wrong = replace(plan, recipes=("rtn", "carsam-plus"), settings=("polish.prompts=2", setting))
    with pytest.raises(UserError, match=said):
        run_plan(wrong, tmp_path / "cells", Silent())
    assert not list(tmp_path.glob("cells/*"))


def test_cells_of_other_settings_are_not_taken_over(plan, tmp_path):
    """Those of a recipe that has the step; the float model has none and is kept."""
    folder = tmp_path / "cells"
    for cell in replace(plan, recipes=("rtn", "carsam-plus")).cells():
        already_done(cell, folder)
    asked = replace(plan, recipes=("rtn", "carsam-plus"), settings=("polish.steps=8",))
    with pytest.raises(UserError, match=r"carsam-plus-w8a8-seed0\.result\.json is the result"):
        run_plan(asked, folder, Silent())


def test_results_of_another_comparison_are_not_mixed_in(plan, tmp_path):
    cells = plan.cells()
    (tmp_path / "cells").mkdir()
    other = {**cells[0].to_json(), "count": 999}
    path = tmp_path / "cells" / f"{cells[0].name}.result.json"
    path.write_text(json.dumps({"cell": other}))
    with pytest.raises(ValueError, match="result of another comparison"):
        run_plan(plan, tmp_path / "cells", Silent())


def test_what_is_evaluated_on_is_named_as_in_the_folder(tmp_path):
    coco = write_scenes(tmp_path, 2, seed=0, size=64)
    document = json.loads(coco.read_text())
    names = [image["file_name"] for image in document["images"]]
    for image in document["images"]:
        image["file_name"] = f"elsewhere\\{image['file_name']}"
    coco.write_text(json.dumps(document))
    assert evaluated_names(coco, tmp_path / "images") == tuple(sorted(names))


def test_a_row_averages_its_seeds():
    (row,) = rows([result("rtn", "w4a4", 0, 0.20), result("rtn", "w4a4", 1, 0.24)])
    assert row.ap == pytest.approx(22.0)
    assert row.ap_spread == pytest.approx(2.0)
    assert row.mean_iou == pytest.approx(44.0)
    assert (row.seconds, row.seeds) == (15.0, 2)


def test_failed_cells_are_counted():
    (row,) = rows([{"cell": {"recipe": "rtn", "bits": "w4a4", "seed": 0}, "error": "no"}])
    assert row.ap is None
    assert "failed" in markdown([row])


def test_the_markdown_shows_mean_and_spread():
    table = rows([result("rtn", "w4a4", 0, 0.20), result("rtn", "w4a4", 1, 0.24)])
    assert "| rtn | w4a4 | 22.0 ± 2.0 |  | 44.0 | 15 s | 0.5 GB | 2 |" in markdown(table)


def test_the_markdown_shows_the_share_of_float():
    table = rows([result("float", "float", 0, 0.40), result("rtn", "w4a4", 0, 0.30)])
    assert "| rtn | w4a4 | 30.0 | 75 % |" in markdown(table)


def test_legacy_rows_are_labelled():
    made = result("qdrop-legacy", "w4a4", 0, 0.30)
    made["evaluation"]["mode"] = "legacy"
    text = markdown(rows([made]))
    assert "| *qdrop-legacy* |" in text
    assert "published faults" in text


def test_the_document_says_what_it_was_measured_on(plan):
    made = result("rtn", "w4a4", 0, 0.30)
    made["evaluation"] |= {"images": 2, "instances": 7, "prompts": "boxes"}
    facts = about(plan, [made])
    assert (facts["model"], facts["images"], facts["instances"]) == ("model", 2, 7)
    assert "/" not in caption(plan, [made])
    assert document(plan, [made])["rows"][0]["aps"] == (pytest.approx(30.0),)


def test_the_native_engine_evaluates_what_is_quantized(plan):
    chosen = replace(plan, engine="native", bits=("w4a4",))
    results = in_this_process(chosen)
    assert [r["evaluation"]["mode"] for r in results] == ["float", "native"]


@pytest.mark.parametrize("engine", ["simulated", "native"])
def test_objects_are_followed_as_well(plan, tiny_sam2_video, tmp_path, engine):
    tiny_sam2_video.save_pretrained(tmp_path / "videos-model")
    plan = replace(
        plan,
        model=str(tmp_path / "videos-model"),
        bits=("w8a8",),
        engine=engine,
        davis=write_davis(tmp_path / "davis"),
    )
    results = in_this_process(plan)
    assert [r["davis"]["mode"] for r in results] == ["float", engine]
    table = rows(results)
    for row, made in zip(table, results, strict=True):
        assert row.j_and_f == pytest.approx(100 * made["davis"]["J_and_F"])
    assert f"| {table[1].j_and_f:.1f} |" in markdown(table)
    found = document(plan, results)
    assert found["about"]["videos"]["year"] == "2016"
    assert [curve["recipe"] for curve in found["by_frame"]] == ["float", "rtn"]


def followed(recipe, bits, *objects):
    """A result of one sequence whose objects have equal J and F."""
    curves = {
        str(n): {name: {"frames": curve} for name in ("J", "F")} for n, curve in enumerate(objects)
    }
    return {"cell": {"recipe": recipe, "bits": bits}, "davis": {"sequences": [{"objects": curves}]}}


def test_frames_are_compared_as_far_as_all_objects_go():
    first, second = followed("rtn", "w4a4", [1.0, 0.5, 0.25]), followed("rtn", "w4a4", [0.5, 0.0])
    assert by_frame([first, second, result("rtn", "w8a8", 0, 0.2)]) == {
        ("rtn", "w4a4"): [75.0, 25.0]
    }


def test_the_plot_of_frames_names_its_recipes(tmp_path):
    cells = ("float", "float"), ("rtn", "w4a4"), ("carsam", "w4a4"), ("rtn", "w8a8")
    path = tmp_path / "frames.svg"
    save_frame_plot({cell: [90.0, 80.0, 85.0, 70.0, 60.0, 50.0] for cell in cells}, path)
    text = path.read_text()
    named = ("float", 2), ("rtn", 2), ("carsam", 1), ("w4a4", 1), ("w8a8", 1)
    assert [text.count(f"<!-- {name} -->") for name, _ in named] == [count for _, count in named]
    save_frame_plot({cells[0]: [90.0]}, path)
    assert "<!-- float -->" in path.read_text()


def test_videos_need_a_model_with_a_memory(plan, tmp_path, capsys):
    where = ["--images", str(plan.images), "--coco", str(plan.coco), "--out", str(tmp_path / "out")]
    davis = str(write_davis(tmp_path / "davis"))
    assert main(["compare", plan.model, *where, "--davis", davis]) == 2
    assert "has no memory" in capsys.readouterr().err
    assert main(["compare", plan.model, *where, "--davis", str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("save", [save_plot, save_cost_plot])
def test_the_plots_are_svgs(tmp_path, save):
    row = Row("rtn", "w4a4", 20.0, 1.0, 40.0, 1.0, 1.0, 3, 0)
    save([Row("float", "float", 30.0, 0.0, 50.0, None, None, 1, 0), row], tmp_path / "a.svg")
    text = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert text.tag.endswith("svg")
    save([row], tmp_path / "b.svg")
    assert (tmp_path / "b.svg").stat().st_size > 1000


@pytest.mark.parametrize("save", [save_plot, save_cost_plot])
def test_panels_go_from_many_bits_to_few(tmp_path, save):
    orders = [("w4a4", "w8a8", "w4a8"), ("w4a8", "w4a4", "w8a8")]
    for order in orders:
        save(
            [Row("rtn", bits, 20.0, 1.0, 40.0, 1.0, 1.0, 3, 0) for bits in order],
            tmp_path / "a.svg",
        )
        titles = re.findall(r"<!-- (w\da\d) -->", (tmp_path / "a.svg").read_text())
        assert titles == ["w8a8", "w4a8", "w4a4"]
