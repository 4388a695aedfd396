"""A browser for tests: whatever Chromium is installed, by Playwright, headless."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Roles that a screen reader has to name.
CONTROLS = (
    "button", "link", "textbox", "spinbutton", "combobox", "listbox", "option", "image", "img", "table", "region",
    "group", "navigation",
)  # fmt: skip
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def open_browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed (pip install headcount[page-test])")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        # Without the sandbox, which containers do not allow; only our own pages are opened.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page in a browser, with everything that it asked for and complained about.

    Args:
        browser: from ``open_browser``.
        address: of the page.
        phone: in the width of a phone.
        dark: in dark colours.
        offline: without network.
    """

    def __init__(
        self, browser: Any, address: str | Path, *, phone: bool = False, dark: bool = False,
        offline: bool = True,
    ) -> None:  # fmt: skip
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(viewport=size, color_scheme=scheme, offline=offline)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = address.as_uri() if isinstance(address, Path) else address
        self.open()

    def open(self, fragment: str = "") -> None:
        self.page.goto("about:blank")
        self.requests.clear()
        self.page.goto(f"{self.address}{fragment}")
        self.page.wait_for_selector("html[data-ready=true]", timeout=20_000)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def script(self, code: str) -> Any:
        return self.page.evaluate(code)

    def until(self, code: str) -> None:
        """Wait for an expression; Playwright's own waiting needs eval, which the page forbids."""
        for _ in range(400):
            if self.script(code):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never: {code}")

    def hot(self, where: str) -> list[int]:
        """Indices of the coloured tokens within an element."""
        return self.script(
            f"[...document.querySelectorAll('{where} [data-index]')]"
            ".filter((item) => item.style.getPropertyValue('--heat')).map((item) => Number(item.dataset.index))"
        )

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def nameless(self) -> list[str]:
        """Roles of what a screen reader reaches and cannot name; ids that several elements have."""
        session = self.context.new_cdp_session(self.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        roles = []
        for node in nodes:
            role = node.get("role", {}).get("value")
            name = node.get("name", {}).get("value", "")
            if role in CONTROLS and not node["ignored"] and not name.strip():
                roles.append(role)
        ids = self.script("[...document.querySelectorAll('[id]')].map((each) => each.id)")
        return roles + [each for each in set(ids) if ids.count(each) > 1]

    def faults(self, axe: str) -> list[Any]:
        """What axe-core finds, given its source."""
        self.script(axe)  # by the debugger, which the page's policy does not bind
        return self.script(
            "axe.run().then((result) => result.violations.map((each) => "
            "[each.id, each.impact, each.nodes.slice(0, 3).map((node) => node.html)]))"
        )
