"""Fixtures of the tests in a browser. They share one API server and one browser, because both are slow to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.ui.airflow_site import ApiServer, Site
from tests.ui.chromium import HEIGHT, TIMEOUT, WIDTH, running_chromium
from tests.ui.tab_page import TabPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow that needs no login."""
    airflow = ApiServer(tmp_path_factory.mktemp("api_server"))
    with airflow:
        site = Site(airflow)
        yield site
        site.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., TabPage]]:
    """Returns a function that opens a browser window of its own, and checks at the end that no script failed."""
    pages: list[TabPage] = []

    def open_page(site: Site, **options: Any) -> TabPage:
        context = browser.new_context(**{"viewport": {"width": WIDTH, "height": HEIGHT}, **options})
        context.set_default_timeout(TIMEOUT)
        pages.append(TabPage(context.new_page(), site.url))
        return pages[-1]

    yield open_page
    for page in pages:
        page.page.context.close()
    assert [error for page in pages for error in page.script_errors] == []


@pytest.fixture
def page(site: Site, new_page: Callable[..., TabPage]) -> TabPage:
    """A browser window."""
    return new_page(site)
