"""Chromium without a network: every request that leaves a page is recorded and refused."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOCAL_SCHEMES = ("file:", "data:", "blob:", "about:")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """Use an installed Chromium; CODECBOOK_CHROMIUM names another program."""
    names = [os.environ["CODECBOOK_CHROMIUM"]] if os.environ.get("CODECBOOK_CHROMIUM") else BROWSERS
    program = next((found for found in map(shutil.which, names) if found), None)
    if program is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(names)}); install the Debian package chromium")
    # containers run as root and have little shared memory
    flags = ["--no-sandbox", "--disable-dev-shm-usage"]
    return {**browser_type_launch_args, "executable_path": program, "args": flags}


@dataclass
class Visit:
    """A page and what it did that it should not."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path) -> Page:
        self.page.goto(path.as_uri())
        return self.page


@pytest.fixture
def visit(browser: Browser):
    """Make visits of a given width in a given colour scheme, offline."""
    contexts = []

    def make(width: int = 1280, color_scheme: str = "light") -> Visit:
        context = browser.new_context(offline=True, viewport={"width": width, "height": 844}, color_scheme=color_scheme)
        contexts.append(context)
        made = Visit(context.new_page())

        def refuse_remote(route: Route) -> None:
            if route.request.url.startswith(LOCAL_SCHEMES):
                route.continue_()
            else:
                made.requests.append(route.request.url)
                route.abort()

        context.route("**/*", refuse_remote)
        made.page.on(
            "console",
            lambda message: made.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        return made

    yield make
    for context in contexts:
        context.close()
