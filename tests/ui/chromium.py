"""Debian's Chromium, which the tests drive with Playwright. Playwright's own browsers are not installed."""

from __future__ import annotations

import shutil

from tests.chaos.deployment.packages import PackageInstaller


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
