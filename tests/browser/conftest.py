"""
Fixtures of the tests in a browser. They share one API server and one browser, because
both are slow to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.airflow_site import ApiServer, Site
from tests.browser.chromium import HEIGHT, TIMEOUT, WIDTH, running_chromium
from tests.browser.tab_page import TabPage

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
    """
    Returns a function that opens a browser window of its own, and checks at the end
    that no script failed.
    """
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
    context = browser.new_context(
        **{"viewport": {"width": WIDTH, "height": HEIGHT}, **options}
    )
    context.set_default_timeout(TIMEOUT)
    return TabPage(context.new_page(), site.url)


@pytest.fixture(scope="package")
def windows() -> dict[str, TabPage]:
    """The browser windows that tests share, by name."""
    return {}


@pytest.fixture
def page(
    browser: Browser, site: Site, windows: dict[str, TabPage]
) -> Iterator[TabPage]:
    """
    A browser window that tests share, so that Airflow's UI is loaded once. Its clock is
    that of the host.
    """
    if "page" not in windows:
        windows["page"] = open_window(browser, site)
    with shared(windows, "page") as page:
        yield page


@pytest.fixture
def timed_page(
    browser: Browser, site: Site, windows: dict[str, TabPage]
) -> Iterator[TabPage]:
    """Another such window, whose clock tests move on. It is never set back."""
    if "timed_page" not in windows:
        windows["timed_page"] = open_window(browser, site)
        windows["timed_page"].page.clock.install()
    with shared(windows, "timed_page") as page:
        yield page


@contextmanager
def shared(windows: dict[str, TabPage], name: str) -> Iterator[TabPage]:
    """
    Let a test use a window, and check at the end that no script failed, and that
    nothing was asked for in vain.
    """
    page = windows[name]
    page.api_requests.clear()
    page.not_found.clear()
    yield page
    page.answer_no_more()
    page.page.context.set_offline(False)
    if page.script_errors:
        del windows[name]
    assert page.script_errors == []
    assert page.not_found == []
