"""A browser for tests that look at pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The path of a Chromium on this machine; the test that asks is skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip(f"no browser found: none of {', '.join(NAMES)} is on the PATH")


@contextmanager
def launched() -> Iterator:
    """A Playwright browser; skips as `chromium`."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
