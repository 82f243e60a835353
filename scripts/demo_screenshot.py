"""Draw docs/figures/demo.png: the page of `carsam demo` with a photo and a box, in Chromium.

    python scripts/demo_screenshot.py

Needs the extras `quantize`, `photos` and `test`, and Chromium. The times that the picture shows are
those of the machine it is drawn on: run it on one that does nothing else.
"""

import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "demo.png"
MODEL, AGAINST = "sam-mini-w4a4", "sam-mini"
PHOTO, BOX = "coffee.png", (172 / 600, 15 / 400, 410 / 600, 210 / 400)
"""The photo, and the cup on it in shares of its sides."""

WINDOW = {"width": 1240, "height": 800}
PROMPTS = 3


def main() -> None:
    """Start the page, use it, and write the picture."""
    command = [sys.executable, "-m", "carsam", "demo", MODEL, "--against", AGAINST, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        with sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            picture = screenshot(browser, address)
            browser.close()
    finally:
        server.terminate()
        server.wait(60)
    image = Image.open(BytesIO(picture)).convert("RGB")
    palette = image.quantize(method=Image.Quantize.MAXCOVERAGE)  # half the size; white stays white
    image.quantize(palette=palette).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB")


def screenshot(browser: Browser, address: str) -> bytes:
    """Return the page as PNG when the cup was boxed a few times: it shows median times."""
    page = browser.new_page(viewport=WINDOW, color_scheme="light")
    page.set_default_timeout(300_000)
    page.goto(address)
    page.click(f"#samples img[src$='{PHOTO}']")
    page.wait_for_selector("#work:not([hidden])")
    page.wait_for_selector("body[data-state=ready]")
    around = page.locator("canvas").first.bounding_box()
    assert around is not None
    x0, y0, x1, y1 = (
        start + share * length
        for share, start, length in zip(
            BOX,
            (around["x"], around["y"]) * 2,
            (around["width"], around["height"]) * 2,
            strict=True,
        )
    )
    for _ in range(PROMPTS):
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move(x1, y1)
        page.mouse.up()
        page.wait_for_selector("body[data-state=ready]")
    page.mouse.move(0, 0)
    return page.screenshot()


if __name__ == "__main__":
    main()
