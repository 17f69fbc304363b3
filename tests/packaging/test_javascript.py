"""Rules for the JavaScript of the tab, and what is in it and in Python."""

from __future__ import annotations

import re

import pytest

from tests.unit.ui.test_static_files import SOURCES


@pytest.mark.parametrize("name", SOURCES)
def test_texts_cannot_become_code(name: str) -> None:
    """
    No file uses a function that reads a text as markup or as code, or loads something
    from another host.
    """
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|srcdoc|import\("
    source = SOURCES[name]

    assert re.findall(forbidden, source, re.IGNORECASE) == []
    urls = [
        url
        for line in source.splitlines()
        if not line.startswith("//")
        for url in re.findall(r"\w+://\S*", line)
    ]
    assert urls == []


@pytest.mark.parametrize("name", SOURCES)
def test_files_are_within_the_limits_of_their_lines(name: str) -> None:
    """
    The limits of Python modules hold for JavaScript, too; its lines have at most 120
    characters without styles.
    """
    lines = SOURCES[name].splitlines()

    assert len(lines) <= 400
    if name != "styles.js":
        assert [line for line in lines if len(line) > 120] == []


def test_the_same_domains_and_characters_as_in_python() -> None:
    """
    The browser accepts the console's domains that links.py makes, and replaces what
    texts.py replaces.
    """
    from polysync_airflow.execution.console import _CONSOLE_DOMAINS
    from polysync_airflow.execution.texts import _UNSAFE

    source = SOURCES["validation.js"]
    (hosts,) = re.findall(r"console\\\.\(\?:(.+?)\)\$/", source)
    (expression,) = re.findall(
        r"const UNSAFE = new RegExp\((.+?)\);", source, re.DOTALL
    )
    unsafe = (
        "".join(re.findall(r'"(.+?)"', expression))
        .replace(r"\\", "\\")
        .partition("]")[0]
        + "]"
    )

    assert {f"console.{host}".replace("\\", "") for host in hosts.split("|")} == set(
        _CONSOLE_DOMAINS.values()
    )
    surrogates = {chr(code) for code in range(0xD800, 0xE000)}
    # JavaScript writes characters beyond the first plane in another way than Python.
    unsafe = re.sub(r"\\u\{(\w+)\}", r"\\U000\1", unsafe)
    characters = [chr(code) for code in (*range(0x10000), *range(0xDFF00, 0xE1100))]
    in_browser = {each for each in characters if re.match(unsafe, each)}
    assert in_browser | surrogates == {
        each for each in characters if _UNSAFE.match(each)
    }
