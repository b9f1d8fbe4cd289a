"""A browser for tests that look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def launched() -> Iterator[Any]:
    """A Playwright browser: this machine's Chromium, else Playwright's own. Skips the test where there is neither."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as failure:
            pytest.skip(f"needs Chromium (`playwright install chromium`): {str(failure).splitlines()[0]}")
        yield browser
        browser.close()
