"""ComfyUI's own page in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .server import ComfyServer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
READY = """() => window.app?.vueAppReady && window.app.extensionManager
    && window.LiteGraph?.registered_node_types.SaveVideo"""


@contextmanager
def open_page(server: ComfyServer, width: int, height: int) -> Iterator[Any]:
    """The server's page, ready for use; without a Chromium or Chrome on the machine, in the one that playwright has."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(180_000)
        page.goto(server.url)
        page.wait_for_function(READY)
        page.wait_for_load_state("networkidle")  # it opens a graph of its own last
        yield page
        browser.close()
