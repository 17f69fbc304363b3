"""
Links lead somewhere, on a code host and in the built site, and the README is short.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

import sagemaker_emulator
from polysync_airflow import __version__
from tests.pages import DOCS, README, ROOT, Page, page, pages

pytestmark = pytest.mark.documentation
MAX_README_LINES = 100
MAX_README_WORDS = 1_000


def slug_of_code_host(heading: str) -> str:
    """Return the anchor of a heading on a code host."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def slug_of_site(heading: str) -> str:
    """Return the anchor of a heading in the site, as Python-Markdown makes it."""
    text = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def test_relative_links_resolve() -> None:
    """
    Each relative link leads to a file, and to a heading whose anchor is the same
    everywhere.
    """
    broken = []
    for each, link in [(found, link) for found in pages() for link in found.links]:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (each.path.parent / path).resolve() if path else each.path
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append((str(each), link))
        elif anchor:
            headings = Page(target).headings
            if anchor not in set(map(slug_of_code_host, headings)) & set(
                map(slug_of_site, headings)
            ):
                broken.append((str(each), link))

    assert broken == []


def test_anchors_are_unique() -> None:
    """No page has two headings with the same anchor."""
    anchors = [
        (str(each), slug_of_site(heading))
        for each in pages()
        for heading in each.headings
    ]

    assert [anchor for anchor, count in Counter(anchors).items() if count > 1] == []


def test_other_sites_are_linked_by_https() -> None:
    """Links to other sites use https."""
    others = [
        (str(each), link)
        for each in pages()
        for link in each.links
        if re.match(r"[a-z]+:", link)
    ]

    assert others
    assert [
        (where, link) for where, link in others if not link.startswith("https://")
    ] == []


def test_pages_have_one_title() -> None:
    """Each page begins with its title, and has only that one."""
    for each in pages():
        titles = re.findall(r"^# .+$", each.prose, re.MULTILINE)
        assert (str(each), len(titles)) == (str(each), 1)
        assert each.text.startswith(f"{titles[0]}\n"), str(each)


def test_the_readme_is_short() -> None:
    """The README is a front door."""
    text = README.read_text()

    assert len(text.splitlines()) <= MAX_README_LINES
    assert len(text.split()) <= MAX_README_WORDS


def test_every_page_can_be_found() -> None:
    """
    Each page is in the navigation of the site, and in the list of pages for those who
    read it on a code host.
    """

    def entries(nav: Any) -> set[str]:
        if isinstance(nav, str):
            return {nav}
        children = nav.values() if isinstance(nav, dict) else nav
        return set().union(*(entries(child) for child in children))

    existing = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    assert entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]) == existing
    assert {
        link for link in page("index.md").links if link.endswith(".md")
    } >= existing - {"index.md"}


def test_pictures_are_used_and_small() -> None:
    """Each picture is on a page, and is small enough for a repository."""
    used = {
        (each.path.parent / link).resolve()
        for each in pages()
        for link in each.links
        if link.endswith((".png", ".svg"))
    }

    pictures = set((DOCS / "images").iterdir())
    assert pictures == used
    assert [each.name for each in pictures if each.stat().st_size > 150_000] == []


def test_wheels_have_the_current_version() -> None:
    """The pages name the wheel that a build makes now."""
    wheels = {
        name
        for each in pages()
        for name in re.findall(r"\w+-\d[\w.]*-py3-none-any\.whl", each.text)
    }

    assert wheels == {
        f"polysync_airflow-{__version__}-py3-none-any.whl",
        f"sagemaker_pipelines_emulator-{sagemaker_emulator.__version__}-py3-none-any.whl",
    }
