import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from serving import serving


@pytest.fixture(scope="module")  # while it is there, an event loop runs that other tests trip over
def browser():
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server():
    """A server of the page with one model, which keeps one image and takes files of 1 MB."""
    with serving("--cache-mb", "3", "--upload-mb", "1", command="demo") as server:
        yield server


@pytest.fixture
def visit(browser):
    """Function (server, options of a context) -> a context with the page of a new user.

    At its end nothing may have been asked of others, and the browser's console must be empty.
    """

    @contextmanager
    def visit(server, silent=True, **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        context.set_default_timeout(120_000)
        page, said, hosts = context.new_page(), [], set()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(f"http://{server.host}:{server.port}/")
        page.wait_for_selector("body[data-state=ready]")
        yield page
        assert hosts - {""} == {f"{server.host}:{server.port}"}
        assert not said or not silent, said
        context.close()

    return visit
