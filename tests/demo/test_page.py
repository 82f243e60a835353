"""The page in a real browser: clicks, boxes, everything, downloads, and several users."""

import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, features
from serving import photo_file, serving

import carsam
from carsam.formats.bundled import run_folder
from carsam.images.run_lengths import RunLengths

MODELS = ("sam-mini-w4a4", "sam-mini")


@pytest.fixture(scope="module")
def both():
    """A server of the page with the 4-bit and the float model."""
    pytest.importorskip("torch")
    with serving("--against", "sam-mini", command="demo") as server:
        yield server


@pytest.fixture(scope="module")
def engines():
    return [carsam.load(name) for name in MODELS]


def upload(page, seed=1, wait=True):
    """Choose a photo of our own, as a person does in the browser's dialogue."""
    file = {"name": f"photo {seed}.png", "mimeType": "image/png", "buffer": photo_file(seed)}
    page.set_input_files("#file", file)
    page.wait_for_selector("#work:not([hidden])")
    if wait:
        settle(page)


def settle(page):
    page.wait_for_selector("body[data-state=ready]")


def place(page, x, y, pane=0):
    """Return where the window shows a place of a photo, in shares of its sides."""
    box = page.locator("canvas").nth(pane).bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def click(page, x, y, pane=0, wait=True, **options):
    page.mouse.click(*place(page, x, y, pane), **options)
    if wait:
        settle(page)


def drag(page, x0, y0, x1, y1, pane=0, wait=True):
    page.mouse.move(*place(page, x0, y0, pane))
    page.mouse.down()
    page.mouse.move(*place(page, x1, y1, pane), steps=3)
    page.mouse.up()
    if wait:
        settle(page)


def saved(page, kind, pane=0) -> bytes:
    with page.expect_download() as download:
        page.locator(f".save .{kind}").nth(pane).click()
    return download.value.path().read_bytes()


def found(page, pane=0):
    """Return what the page saves as JSON, for one mask."""
    content = json.loads(saved(page, "json", pane))
    (annotation,) = content["annotations"]
    return annotation


def predicted(engine, annotation, seed=1):
    """Return the masks and scores of the predictor for the prompt that was saved with a mask."""
    predictor = carsam.SamPredictor(engine)
    predictor.set_image(Image.open(BytesIO(photo_file(seed))))
    points = annotation["point_coords"]
    masks, ious, _ = predictor.predict(
        np.array(points) if points else None,
        np.array(annotation["point_labels"]) if points else None,
        annotation["box"],
        multimask_output=len(points) == 1 and not annotation["box"],
    )
    return masks, ious


def mask_of(annotation):
    return RunLengths.of_compressed(annotation["segmentation"]).mask()


def test_a_click_shows_the_best_mask_of_both_models(both, visit, engines):
    with visit(both) as page:
        upload(page)
        click(page, 0.4, 0.4)
        annotations = [found(page, pane) for pane in (0, 1)]
        (x, y), *rest = annotations[0]["point_coords"]
        assert not rest
        assert (abs(x - 0.4 * 120) < 1, abs(y - 0.4 * 90) < 1) == (True, True)
        chosen = None
        for engine, annotation in zip(engines, annotations, strict=True):
            masks, ious = predicted(engine, annotation)
            chosen = int(np.argmax(ious)) if chosen is None else chosen
            np.testing.assert_array_equal(mask_of(annotation), masks[chosen])
        for pane in page.locator(".pane").all():
            assert re.fullmatch(r"\d+ ms|\d+\.\d\d s", pane.locator(".encode").inner_text())
            assert re.fullmatch(r"\d+ ms|\d+\.\d\d s", pane.locator(".ask").inner_text())
        sizes = [
            sum(file.stat().st_size for file in run_folder(MODELS[0]).iterdir()),
            sum(weight.numel() * 4 for weight in engines[1].module.parameters()),
        ]
        shown = [f"{size / 1e6:.1f} MB" for size in sizes]
        assert page.locator(".bytes").all_inner_texts() == shown
        numbers = dict(
            zip(
                page.locator("#comparison dt").all_inner_texts(),
                page.locator("#comparison dd").all_inner_texts(),
                strict=True,
            )
        )
        one, other = (mask_of(each) for each in annotations)
        assert numbers["smaller"] == f"{sizes[1] / sizes[0]:.1f}\N{MULTIPLICATION SIGN}"
        assert numbers["IoU of the two masks"] == f"{(one & other).sum() / (one | other).sum():.2f}"


def test_each_of_the_masks_of_a_click_can_be_chosen(both, visit, engines):
    with visit(both) as page:
        upload(page)
        click(page, 0.4, 0.4)
        shown = []
        for size in ("Small", "Medium", "Large"):
            page.get_by_role("button", name=size, exact=True).click()
            shown.append(found(page))
        areas = [each["area"] for each in shown]
        assert areas == sorted(mask.sum() for mask in predicted(engines[0], shown[0])[0])


def test_a_box_on_either_photo_asks_both_models(both, visit, engines):
    with visit(both) as page:
        upload(page)
        drag(page, 0.7, 0.8, 0.2, 0.1, pane=1)  # from its last corner to its first
        for pane, engine in enumerate(engines):
            annotation = found(page, pane)
            np.testing.assert_allclose(annotation["box"], [24, 9, 84, 72], atol=1)
            np.testing.assert_array_equal(mask_of(annotation), predicted(engine, annotation)[0][0])


def test_pictures_are_the_mask_and_what_is_in_it(server, visit):
    with visit(server) as page:
        upload(page)
        drag(page, 0.2, 0.1, 0.7, 0.8)
        mask = mask_of(found(page))
        assert mask.any()
        picture = np.array(Image.open(BytesIO(saved(page, "png"))).convert("L"))
        np.testing.assert_array_equal(picture, np.where(mask, 255, 0))
        cut = np.array(Image.open(BytesIO(saved(page, "cutout"))))
        photo = np.array(Image.open(BytesIO(photo_file(1))))
        np.testing.assert_array_equal(cut[..., 3], np.where(mask, 255, 0))
        np.testing.assert_array_equal(cut[mask][:, :3], photo[mask])


def test_clicks_that_exclude_and_what_is_undone(server, visit):
    with visit(server) as page:
        upload(page)
        drag(page, 0.2, 0.1, 0.7, 0.8)
        click(page, 0.4, 0.4)
        click(page, 0.6, 0.6, button="right")
        page.get_by_role("button", name="Exclude").click()
        click(page, 0.3, 0.3)
        assert found(page)["point_labels"] == [1, 0, 0]
        page.get_by_role("button", name="Undo").click()
        settle(page)
        page.keyboard.press("Control+z")
        settle(page)
        annotation = found(page)
        assert (annotation["point_labels"], len(annotation["box"])) == ([1], 4)
        page.get_by_role("button", name="Clear").click()
        assert page.locator(".save .json").is_disabled()


def test_keys_do_what_the_mouse_does(server, visit):
    with visit(server) as page:
        upload(page)
        page.keyboard.press("Enter")  # the photo has the focus
        settle(page)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("x")
        settle(page)
        annotation = found(page)
        assert annotation["point_coords"] == [[60, 45], [63, 44]]
        assert annotation["point_labels"] == [1, 0]
        page.locator("canvas").focus()
        page.keyboard.press("Escape")
        page.keyboard.press("b")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("b")
        settle(page)
        assert found(page)["box"] == [60, 41, 63, 44]


def test_everything_is_what_the_generator_finds(both, visit, engines):
    with visit(both) as page:
        upload(page)
        page.evaluate("document.querySelector('#density option').value = '3'")
        page.select_option("#density", "3")
        page.select_option("#strictness", "0.6")
        page.click("#everything")
        settle(page)
        own = engines[0].mask_thresholds
        for pane, engine in enumerate(engines):
            generator = carsam.SamAutomaticMaskGenerator(
                engine,
                3,
                pred_iou_thresh=0.6 * own.pred_iou_thresh,
                stability_score_thresh=0.6 * own.stability_score_thresh,
                output_mode="coco_rle",
            )
            expected = generator.generate(Image.open(BytesIO(photo_file(1))))
            assert expected
            saved_masks = json.loads(saved(page, "json", pane))
            image = {"file_name": "photo 1.png", "height": 90, "width": 120}
            assert saved_masks["image"] == image
            for number, (each, record) in enumerate(
                zip(saved_masks["annotations"], expected, strict=True)
            ):
                assert each == {"id": number, **record}
            colours = np.array(Image.open(BytesIO(saved(page, "png", pane))))
            union = np.any(
                [RunLengths.of_compressed(e["segmentation"]).mask() for e in expected], 0
            )
            np.testing.assert_array_equal(colours[..., 3] > 0, union)


def test_users_at_the_same_time_have_photos_and_masks_of_their_own(both, visit, engines):
    with visit(both) as one, visit(both) as other:
        upload(one, 1, wait=False)
        upload(other, 2, wait=False)
        drag(one, 0.2, 0.1, 0.7, 0.8, wait=False)  # before the photos are encoded
        click(other, 0.5, 0.5, wait=False)
        drag(other, 0.1, 0.1, 0.9, 0.8, wait=False)
        for page, seed in ((one, 1), (other, 2)):
            settle(page)
            for pane, engine in enumerate(engines):
                annotation = found(page, pane)
                masks, _ = predicted(engine, annotation, seed)
                np.testing.assert_array_equal(mask_of(annotation), masks[0])
        assert len(found(other)["point_coords"]) == 1


def test_a_photo_that_the_server_has_dropped_is_sent_again(server, visit):
    with visit(server, silent=False) as page:  # the browser reports the 404
        upload(page)
        assert server.post("/model/api/images", photo_file(2)).status == 200
        click(page, 0.4, 0.4)
        assert found(page)["area"] > 0
        assert page.locator("#trouble").is_hidden()


def test_a_photo_that_is_too_large_is_not_sent(server, visit):
    noise = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8)
    Image.fromarray(pixels).save(noise, "png", compress_level=1)
    with visit(server) as page:
        file = {"name": "noise.png", "mimeType": "image/png", "buffer": noise.getvalue()}
        page.set_input_files("#file", file)
        settle(page)
        expected = "noise.png has 1.2 MB; this server takes 1.0 MB. Choose a smaller photo."
        assert page.inner_text("#trouble") == expected


def test_what_is_no_photo_is_named(server, visit):
    with visit(server) as page:
        file = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo"}
        page.set_input_files("#file", file)
        settle(page)
        assert "notes.txt is no photo that this browser can show." in page.inner_text("#trouble")
        assert page.locator("#welcome").is_visible()
        upload(page)
        assert page.locator("#trouble").is_hidden()


@pytest.mark.skipif(not features.check("avif"), reason="needs Pillow with AVIF")
def test_other_kinds_of_pictures_are_sent_as_the_server_reads_them(server, visit):
    content = BytesIO()
    Image.open(BytesIO(photo_file(1))).save(content, "avif")
    with visit(server) as page:
        file = {"name": "photo.avif", "mimeType": "image/avif", "buffer": content.getvalue()}
        page.set_input_files("#file", file)
        page.wait_for_selector("#work:not([hidden])")
        settle(page)
        click(page, 0.4, 0.4)
        assert found(page)["segmentation"]["size"] == [90, 120]


def test_a_photo_to_begin_with(server, visit):
    with visit(server) as page:
        if not page.locator("#samples button").count():
            pytest.skip("needs the extra photos")
        page.locator("#samples button").first.click()
        page.wait_for_selector("#work:not([hidden])")
        settle(page)
        assert "MB" in page.inner_text(".bytes")
        assert page.inner_text("#status") == "Click on a thing, or drag a box around it."


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_every_window_in_light_and_dark(server, visit, scheme, width):
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with visit(server, **options) as page:
        upload(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.locator("canvas").bounding_box()["width"] > 0.8 * min(width, 700)
