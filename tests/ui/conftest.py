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
        pages.append(open_window(browser, site, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.page.context.close()
    assert [error for page in pages for error in page.script_errors] == []


def open_window(browser: Browser, site: Site, **options: Any) -> TabPage:
    """Open a browser window with a session of its own."""
    context = browser.new_context(**{"viewport": {"width": WIDTH, "height": HEIGHT}, **options})
    context.set_default_timeout(TIMEOUT)
    return TabPage(context.new_page(), site.url)


@pytest.fixture(scope="package")
def windows() -> list[TabPage]:
    """The browser window that tests share, if one is open."""
    return []


@pytest.fixture
def page(browser: Browser, site: Site, windows: list[TabPage]) -> Iterator[TabPage]:
    """A browser window that tests share, so that Airflow's UI is loaded once. Their clock is that of the host."""
    if not windows:
        windows.append(open_window(browser, site))
    page = windows[-1]
    page.api_requests.clear()
    yield page
    page.answer_no_more()
    if page.script_errors:
        windows.clear()
    assert page.script_errors == []


@pytest.fixture
def own_page(site: Site, new_page: Callable[..., TabPage]) -> TabPage:
    """A browser window of this test alone, whose clock it can move."""
    return new_page(site)
