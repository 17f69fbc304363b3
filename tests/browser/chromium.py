"""
Debian's Chromium, which the tests drive with Playwright. Playwright's own browsers are
not installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.chaos.deployment.packages import PackageInstaller

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The window of the tests: what people see on a common screen.
WIDTH, HEIGHT = 1400, 900
# How long a test waits for what a page will show, in milliseconds, also on a busy
# machine.
TIMEOUT = 30_000


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run the browser without a window for the time of the context."""
    # Only few tests need it, and the environments of other versions of Airflow do not
    # have it.
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=TIMEOUT)
    program = find_chromium() or install_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


def find_chromium() -> str | None:
    """Return the path of the program; None if it is not installed."""
    return shutil.which("chromium")


def install_chromium() -> str:
    """
    Install the program, and return its path.

    :raises ProcessError: if it cannot be installed.
    """
    installer = PackageInstaller("Chromium")
    installer.install("chromium")
    path = find_chromium()
    assert path, "Debian's package chromium has no program chromium"
    return path
