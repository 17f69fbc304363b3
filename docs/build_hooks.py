"""
Hooks of the documentation's build (``make docs``).

The pages link to files outside of ``docs/``, such as the example DAGs, by relative
paths, which work on a code host. The build publishes these files under ``source/`` and
links to them there. A class that has a heading of its own, and another one from its
docstring, is in the table of contents once. The start page, which names all topics,
comes late in a search. For programs that read the site, llms.txt
lists the pages, and llms-full.txt has the text of all of them. At the end, the build
fails if a page loads something from another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any, Final
from urllib.parse import urljoin

import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]
PUBLISHED: Final = (
    "README.md",
    "emulator/README.md",
    "emulator/docs/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "Makefile",
    "tests/README.md",
    "tests/chaos/README.md",
    "tests/exhaustion/README.md",
    "tests/system/airflow/executors.py",
    "example_dags/**/*.*",
    # Their docstrings have the arguments.
    "polysync_airflow/operators/*.py",
    "polysync_airflow/sensors/*.py",
    "polysync_airflow/task_groups.py",
)
FOLDER: Final = "source"
START_PAGE_BOOST: Final = 0.3
_LINK: Final = re.compile(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
_MARKDOWN_LINK: Final = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
# Where mkdocstrings shows the docstring of a name.
_DOCSTRING: Final = re.compile(r"^::: (\S+)\n(?:[ ]+\S.*\n?)*", re.MULTILINE)
# The attributes by which an element loads something when the page is opened.
_LOADING: Final = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
}
_OTHER_HOST: Final = re.compile(r"(https?:)?//")


def _published() -> dict[str, Path]:
    """
    Return the files outside of the documentation's folder, by their paths in the
    repository.
    """
    paths = (
        path
        for pattern in PUBLISHED
        for path in ROOT.glob(pattern)
        if "__pycache__" not in path.parts
    )
    return {path.relative_to(ROOT).as_posix(): path for path in paths}


def on_files(files: Files, config: Any) -> Files:
    """
    Add the files to the site. They are texts: a browser shows them instead of
    downloading them.
    """
    for name, path in _published().items():
        files.append(
            File.generated(config, f"{FOLDER}/{name}.txt", content=path.read_text())
        )
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """
    Lead the links to these files to their copies.

    The links of the start page have the words of all pages, so the search finds it for
    each question: its own sections count for less (the theme's ``search.boost``, which
    a code host would show as a table if it were in the page).
    """
    if page.is_homepage:
        page.meta["search"] = {"boost": START_PAGE_BOOST}
    folder = Path("docs", page.file.src_uri).parent.as_posix()
    published = _published()

    def copy_of(link: re.Match[str]) -> str:
        name = normpath(f"{folder}/{link[1]}")
        if name not in published:
            return link[0]
        return f"]({relpath(f'docs/{FOLDER}/{name}.txt', folder)})"

    return _LINK.sub(copy_of, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> None:
    """
    Leave those entries out of the table of contents that repeat the entry above them.
    """
    for title in page.toc:
        for section in title.children:
            section.children = [
                each for each in section.children if each.title != section.title
            ]


def on_env(env: Any, config: Any, files: Files) -> None:
    """Add the list of all pages, and their text in one file."""
    whole = urljoin(config.site_url, "llms-full.txt")
    contents = f"# {config.site_name}\n\n> {config.site_description}\n\n"
    contents += f"- [All pages in one file]({whole})\n"
    texts = []
    section = None
    for page in _in_reading_order(files):
        if page.parent and page.parent.title != section:
            section = page.parent.title
            contents += f"\n## {section}\n\n"
        headings = [each.title for title in page.toc for each in title.children]
        contents += f"- [{page.title}]({page.canonical_url}): {'; '.join(headings)}\n"
        texts.append(f"<!-- {page.canonical_url} -->\n{_with_whole_links(page)}")
    files.append(File.generated(config, "llms.txt", content=contents))
    files.append(File.generated(config, "llms-full.txt", content="\n".join(texts)))


def _in_reading_order(files: Files) -> Iterator[Any]:
    pages = [file.page for file in files.documentation_pages()]
    page = next(each for each in pages if each.is_homepage)
    while page:
        yield page
        page = page.next_page


def _with_whole_links(page: Any) -> str:
    def whole(link: re.Match[str]) -> str:
        path = re.sub(r"\.md(?=#|$)", ".html", link[1])
        return f"]({urljoin(page.canonical_url, path)})"

    return _MARKDOWN_LINK.sub(whole, _DOCSTRING.sub(_docstring, page.markdown + "\n"))


def _docstring(directive: re.Match[str]) -> str:
    """Return the name and its docstring as the code has it."""
    package, _, name = directive[1].partition(".")
    described = _package(package)[name]
    text = described.docstring.value if described.docstring else ""
    return f"`{directive[1]}`\n\n```text\n{text}\n```\n"


@cache
def _package(name: str) -> Any:
    return griffe.load(name, search_paths=[ROOT], allow_inspection=False)


class _Loads(HTMLParser):
    """Collects what a page loads from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        values = dict(attrs)
        url = values.get(_LOADING.get(tag, "")) or ""
        # The page's own address, for search engines.
        if _OTHER_HOST.match(url) and values.get("rel") != "canonical":
            self.urls.append(url)


def on_post_build(config: Any) -> None:
    """Fail if a page or a style sheet loads something from another host."""
    found = []
    for path in Path(config.site_dir).rglob("*.*"):
        if path.suffix == ".html":
            page = _Loads()
            page.feed(path.read_text())
            found += [f"{path.name}: {url}" for url in page.urls]
            # The theme's script loads Mermaid from another host if a page has a
            # diagram.
            found += (
                [f"{path.name}: Mermaid"]
                if 'class="mermaid"' in path.read_text()
                else []
            )
        elif path.suffix == ".css":
            found += [
                f"{path.name}: {url}"
                for url in re.findall(
                    r"url\(['\"]?((?:https?:)?//[^)]+)", path.read_text()
                )
            ]
    if found:
        raise PluginError(
            "These pages load something from another host:\n"
            + "\n".join(sorted(set(found)))
        )
