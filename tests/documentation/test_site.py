"""
The built site in a browser, opened from the disk: its search, its tables, its table of
contents and its colours; and the files that it has for programs.

``POLYSYNC_DOCS_PYTHON`` is the Python of the environment that ``make docs`` uses;
``make test-browser`` sets it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from tests.browser.chromium import running_chromium
from tests.pages import DOCS, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

pytestmark = [pytest.mark.system, pytest.mark.nightly]

PAGES: Final = sorted(
    path.relative_to(DOCS).with_suffix(".html").as_posix()
    for path in DOCS.rglob("*.md")
)
WIDE: Final[ViewportSize] = {"width": 1400, "height": 1000}
NARROW: Final[ViewportSize] = {"width": 400, "height": 1000}
QUESTIONS: Final = Path(__file__).parent / "questions.toml"
ADDRESSES: Final = "links => links.map(each => each.href)"
# What is wrong with a page: the names in two lines, the doubles, and whether it is
# wider than the window.
CHECK: Final = """() => ({
    broken: [...document.querySelectorAll("td:first-child code")]
        .filter(each => each.getClientRects().length > 1).map(each => each.textContent),
    doubles: [...document.querySelectorAll(".md-sidebar--secondary nav li")]
        .filter(each => { const above = each.parentElement.closest("li");
                          return above && above.querySelector("a").innerText === each.innerText; })
        .map(each => each.innerText),
    wide: document.documentElement.scrollWidth > innerWidth,
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site."""
    folder = tmp_path_factory.mktemp("site")
    python = os.environ.get("POLYSYNC_DOCS_PYTHON", sys.executable)
    command = [
        python,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    subprocess.run(
        command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run the browser for all tests."""
    with running_chromium() as browser:
        yield browser


def new_page(
    browser: Browser, size: ViewportSize, **options: Any
) -> tuple[Page, list[str]]:
    """Return a page of a window, and the list of what the browser complains about."""
    page = browser.new_page(viewport=size, **options)
    complaints: list[str] = []
    page.on(
        "console",
        lambda each: complaints.append(each.text) if each.type != "log" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page, complaints


@pytest.mark.parametrize(
    ("words", "heading"),
    [
        ("Slack", "How do I send it to Slack, PagerDuty or SNS?"),
        ("parallel", "How do I limit how many executions run in parallel?"),
    ],
)
def test_search_needs_no_server(
    words: str, heading: str, site: Path, browser: Browser
) -> None:
    """The search of a page that is opened from the disk finds a section."""
    page, complaints = new_page(browser, WIDE)
    page.goto((site / "reference/xcoms.html").as_uri())

    field = page.get_by_role("textbox", name="Search")
    field.click()
    field.press_sequentially(words)

    page.locator(".md-search-result__link", has_text=heading).first.wait_for()
    assert complaints == []


def test_search_finds_the_page_of_a_question(site: Path, browser: Browser) -> None:
    """
    All questions in questions.toml, which are whole sentences, have their page as a
    result, and all but four as the first or second one. The start page, which has the
    words of all others, stands in the way of few.
    """
    page, complaints = new_page(browser, WIDE)
    page.goto((site / "index.html").as_uri())
    pages = tomllib.loads(QUESTIONS.read_text())
    questions = {
        question: f"{name}.html" for name, asked in pages.items() for question in asked
    }

    found = {question: pages_found(page, question) for question in questions}

    assert len(questions) >= 80
    assert {each for each in questions if questions[each] not in found[each]} == set()
    late = {each for each in questions if questions[each] not in found[each][:2]}
    assert len(late) <= 4, late
    start = {each for each in questions if any(map(is_start, found[each][:3]))}
    assert len(start) <= 3, start
    assert complaints == []


def is_start(path: str) -> bool:
    """Return whether a path is that of the start page."""
    return path.endswith("/index.html")


def pages_found(page: Page, question: str) -> list[str]:
    """Search for a question, and return the paths of the pages that are listed."""
    from playwright.sync_api import expect

    field = page.get_by_role("textbox", name="Search")
    results = page.locator(".md-search-result__item > .md-search-result__link")
    field.click()
    # The theme waits for a key.
    field.fill("")
    field.press("End")
    expect(results).to_have_count(0)
    field.fill(question)
    field.press("End")
    expect(results.first).to_be_visible()
    # Several sections of a page may be listed.
    paths = [urlsplit(each).path.split("/") for each in results.evaluate_all(ADDRESSES)]
    return [*dict.fromkeys("/".join(path[-2:]) for path in paths)]


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_pages_are_well_laid_out(
    size: ViewportSize, site: Path, browser: Browser
) -> None:
    """
    No name in a table is broken, no page is wider than the window, and no entry of its
    contents is there twice.
    """
    page, complaints = new_page(browser, size)
    found = {}
    for name in PAGES:
        page.goto((site / name).as_uri())
        found[name] = page.evaluate(CHECK)

    nothing = {"broken": [], "doubles": [], "wide": False}
    assert {name: each for name, each in found.items() if each != nothing} == {}
    assert complaints == []


def test_colours_and_logo(site: Path, browser: Browser) -> None:
    """
    The site has its own colours, light and dark as the reader's system says, and its
    own logo.
    """
    backgrounds = set()
    for scheme in ("light", "dark"):
        page, _ = new_page(browser, WIDE, color_scheme=scheme)
        page.goto((site / "index.html").as_uri())
        colour = "each => getComputedStyle(each).backgroundColor"
        assert page.locator("header").evaluate(colour) == "rgb(11, 79, 87)"
        assert (
            page.locator("header .md-logo img").evaluate("each => each.naturalWidth")
            > 0
        )
        backgrounds.add(page.locator("body").evaluate(colour))

    assert len(backgrounds) == 2


def test_all_pages_are_in_one_file(site: Path) -> None:
    """llms.txt lists each page once, and llms-full.txt has the text of each."""
    listed = re.findall(
        r"airflow/([\w/-]+\.html)\)", (site / "llms.txt").read_text(), re.MULTILINE
    )
    text = (site / "llms-full.txt").read_text()

    assert sorted(listed) == PAGES
    assert {
        path.name
        for path in DOCS.rglob("*.md")
        if path.read_text().splitlines()[0] not in text
    } == set()
    assert "](../" not in text
    assert "\n::: " not in text
