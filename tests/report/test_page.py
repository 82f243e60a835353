import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from carsam.cli import main
from carsam.formats.checkpoint import read_checkpoint
from carsam.report.page import POLICY, read, render
from carsam.report.sections import SECTIONS

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "sam-mini-w4a4_val_dev.json"
EMPTY = ("img", "meta", "wbr", "rect", "line", "circle", "polyline")


class Structure(HTMLParser):
    """Reads a page and remembers its elements; refuses one that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.found = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag


def structure(text):
    parser = Structure()
    parser.feed(text)
    assert parser.open == []
    return parser.found


def report(run, out, *options):
    return main(["report", str(run), "--out", str(out), "--quiet", *options])


def test_a_page_of_the_run_alone_says_what_to_give_for_the_rest(run, tmp_path):
    out = tmp_path / "report.html"
    assert report(run, out) == 0
    text = out.read_text()
    assert "carsam doctor RUN --images PHOTOS --out FOLDER" in text
    assert "carsam evaluate RUN --coco" in text
    found = read(out)
    assert found["fingerprint"] == read_checkpoint(run).fingerprint
    assert found["photos"] is found["diagnosis"] is found["evaluation"] is None
    assert sum(part["bytes"] for part in found["parts"]) == sum(
        tensor.nbytes for tensor in read_checkpoint(run).tensors.values()
    )


def test_the_page_has_all_sections_and_needs_nothing_else(page):
    text = page.read_text()
    elements = structure(text)
    assert [a["id"] for tag, a in elements if tag == "section"] == list(SECTIONS)
    assert {tag for tag, _ in elements} & {"link", "iframe", "object", "video", "form"} == set()
    assert [a for tag, a in elements if tag == "script"] == [
        {"type": "application/json", "id": "report"}
    ]
    sources = [a["src"] for _, a in elements if "src" in a]
    assert sources
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?://", text)
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in elements
    assert page.stat().st_size < 3e6


def test_the_worst_mask_comes_first_and_rules_can_be_pasted(page, run, tmp_path):
    found = read(page)
    ious = [crop["iou"] for crop in found["photos"]["crops"]]
    assert ious == sorted(ious)
    assert found["photos"]["strict"] is None
    assert found["photos"]["agreement"]["masks"] == len(ious)
    assert found["photos"]["agreement"]["differing"] == 0
    assert all(1 <= each["used"] <= 2 ** each["bits"] for each in found["ranges"])
    rules = re.findall(r"--rule &#x27;(\S+)=w8a8&#x27;", page.read_text())
    patterns = {p for cost in found["diagnosis"]["costs"] for p in cost["patterns"]}
    assert rules
    assert set(rules) <= patterns


def test_what_an_evaluation_found_is_the_verdict(run, tmp_path):
    out = tmp_path / "report.html"
    assert report(run, out, "--evaluation", str(RESULT)) == 0
    text = out.read_text()
    assert "AP changes by \N{MINUS SIGN}3.2 [\N{MINUS SIGN}4.0, \N{MINUS SIGN}2.3]" in text
    assert read(out)["evaluation"] == json.loads(RESULT.read_text())


def test_an_evaluation_without_the_float_model_is_shown(run, tmp_path):
    alone = json.loads(RESULT.read_text()) | {"float": None, "agreement": None}
    (tmp_path / "alone.json").write_text(json.dumps(alone))
    out = tmp_path / "report.html"
    assert report(run, out, "--evaluation", str(tmp_path / "alone.json")) == 0
    assert "it reaches AP 40.0; the float model was not measured" in out.read_text()
    structure(out.read_text())


def test_names_are_text_and_never_html(page):
    found = {**read(page), "run": "<b>&</b>", "command": "</script><img src=x>"}
    found["photos"] = {
        **found["photos"],
        "images": ["<i>.jpg"],
        "crops": [
            {"image": "</figure>", "box": [0, 0, 1, 1], "iou": 0.5, "pictures": ["AA", "BB"]}
        ],
    }
    text = render(found)
    assert all(a.get("src") != "x" for _, a in structure(text))
    assert "<b>&" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"format": "carsam-davis"}', "is no result of an evaluation on COCO"),
        ('{"format": "carsam-evaluation"}', "lacks numbers of an evaluation"),
        (None, "cannot be read"),
    ],
)
def test_other_files_are_no_evaluation(run, tmp_path, capsys, content, message):
    file = tmp_path / "file.json"
    if content is not None:
        file.write_text(content)
    out = tmp_path / "report.html"
    assert report(run, out, "--evaluation", str(file)) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("key", ["coco", "intervals", "mean_iou", "images", "float", "agreement"])
def test_an_evaluation_of_other_types_is_refused(run, tmp_path, capsys, key):
    file = tmp_path / "file.json"
    file.write_text(json.dumps(json.loads(RESULT.read_text()) | {key: "text"}))
    assert report(run, tmp_path / "report.html", "--evaluation", str(file)) == 2
    assert "lacks numbers of an evaluation" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", '{"diagnosis": {"everything": {}}}'])
def test_other_files_are_no_diagnosis(run, tmp_path, capsys, content):
    (tmp_path / "doctor.json").write_text(content)
    assert report(run, tmp_path / "report.html", "--doctor", str(tmp_path)) == 2
    assert "does not hold what `carsam doctor` writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--coco", "boxes.json"), "give --images with the photos too"),
        (("--count", "0"), "Found --count 0; expected at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, tmp_path, capsys, options, message):
    assert report(run, tmp_path / "report.html", *options) == 2
    assert message in capsys.readouterr().err


def test_a_float_model_has_no_report(run, kept, tmp_path, capsys):
    assert report(kept / "model", tmp_path / "report.html") == 2
    assert "not a run of `carsam quantize`" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "<html></html>"])
def test_another_file_is_no_report(tmp_path, content):
    (tmp_path / "page.html").write_text(content)
    with pytest.raises(ValueError, match="is no report of `carsam report`"):
        read(tmp_path / "page.html")


def test_a_browser_shows_it_without_a_word_of_complaint(page, tmp_path):
    """Chromium reports on its error stream what a page's policy refuses, and failed requests."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    shots = []
    for scheme in ("light", "dark"):
        shot = tmp_path / f"{scheme}.png"
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ]
        command += ["--log-level=0", f"--user-data-dir={tmp_path / scheme}", f"--screenshot={shot}"]
        command += [
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        ]
        done = subprocess.run(
            [*command, page.as_uri()], capture_output=True, text=True, timeout=120
        )
        assert "CONSOLE" not in done.stderr
        shots.append(shot.read_bytes())
    assert shots[0] != shots[1]
