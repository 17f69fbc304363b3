"""Reads the documentation: pages, headings, tables, links and code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
README: Final = ROOT / "README.md"
EMULATOR_DOCS: Final = ROOT / "emulator" / "docs"
EMULATOR_README: Final = ROOT / "emulator" / "README.md"
# A fence may be indented, in a list.
_BLOCK: Final = re.compile(
    r"(?:^[ ]*<!-- (?P<comment>[^\n]*) -->\n)?^(?P<indent> *)```(?P<language>\w*)(?P<info>[^\n]*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_TITLE: Final = re.compile(r'title="([^"]+)"')
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """
    A code block.

    :param page: its page.
    :param number: its number on the page, from 1.
    :param language: the language after the fence.
    :param title: the file that it stands for; None if it names none.
    :param comment: the comment before it; empty if there is none.
    :param text: the code.
    """

    page: Page
    number: int
    language: str
    title: str | None
    comment: str
    text: str

    @property
    def reason(self) -> str | None:
        """Why it is not run; None if it is."""
        name, _, reason = self.comment.partition(": ")
        return reason if name == "not run" else None

    def __str__(self) -> str:
        return f"{self.page}:{self.language}-{self.number}"


@dataclass(frozen=True)
class Page:
    """
    A page.

    :param path: its file.
    """

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """The text in Markdown."""
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The text without code blocks."""
        return _BLOCK.sub("", self.text)

    @property
    def headings(self) -> list[str]:
        """The headings of all levels."""
        return re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)

    @property
    def links(self) -> list[str]:
        """The targets of links and images."""
        return _LINK.findall(re.sub(r"`[^`\n]*`", "", self.prose))

    @property
    def blocks(self) -> Iterator[Block]:
        """The code blocks."""
        for number, found in enumerate(_BLOCK.finditer(self.text), start=1):
            indent = found["indent"]
            lines = [
                line.removeprefix(indent)
                for line in found["text"].splitlines(keepends=True)
            ]
            title = _TITLE.search(found["info"])
            yield Block(
                self,
                number,
                found["language"],
                title and title[1],
                found["comment"] or "",
                "".join(lines),
            )

    def section(self, heading: str) -> str:
        """Return the text under a heading, up to the next heading."""
        _, found, rest = f"\n{self.prose}".partition(f"# {heading}\n")
        assert found, f"{self} has no heading {heading!r}"
        return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]

    def rows(self, heading: str) -> dict[str, str]:
        """Return the table rows under a heading, by the text of their first cell."""
        lines = re.findall(
            r"^\| ([^|]+?) \| (.*)\|$", self.section(heading), re.MULTILINE
        )
        return {first.replace("`", ""): rest for first, rest in lines}


def page(name: str) -> Page:
    """Return a page by its path below ``docs/``."""
    return Page(DOCS / name)


def pages() -> list[Page]:
    """
    Return all pages, with those at the top of the repository, but not the changelog.
    """
    others = (
        "CONTRIBUTING.md",
        "SECURITY.md",
        "tests/README.md",
        "tests/chaos/README.md",
    )
    top = (README, EMULATOR_README, *(ROOT / name for name in others))
    return [
        Page(path)
        for path in (
            *top,
            *sorted(EMULATOR_DOCS.rglob("*.md")),
            *sorted(DOCS.rglob("*.md")),
        )
    ]


def blocks(*languages: str) -> list[Block]:
    """
    Return the code blocks in these languages, but not those that the emulator's own
    tests run.
    """
    provider = (each for each in pages() if each.path != EMULATOR_README)
    return [
        block
        for each in provider
        for block in each.blocks
        if block.language in languages
    ]
