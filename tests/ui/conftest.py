"""Fixtures of the tests in a browser. All tests share one API server and one browser, because both are slow to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ui.airflow_site import ApiServer, Site
from tests.ui.chromium import find_chromium, install_chromium

WIDTH, HEIGHT = 1400, 900
