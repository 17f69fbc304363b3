"""
Compares a tag with what it releases, and prints the notes of the release: ``python -m
tests.packaging.tag v1.2.3``.

It needs no packages: the release runs it before it builds anything.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def main() -> int:
    """Print the notes, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.packaging.tag", description=__doc__
    )
    parser.add_argument("tag")
    tag = parser.parse_args().tag
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"][
        "Source"
    ]
    package, changelog = (
        (ROOT / name).read_text()
        for name in ("polysync_airflow/__init__.py", "CHANGELOG.md")
    )
    try:
        print(notes(tag, package, changelog, source))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def notes(tag: str, package: str, changelog: str, source: str) -> str:
    """
    Return the part of the changelog about a tag, whose links lead to the files of the
    tag.

    :param tag: the tag, such as ``v1.2.3``.
    :param package: the text of the module that defines ``__version__``.
    :param changelog: the text of the changelog.
    :param source: the URL of the repository.
    :raises ValueError: the tag is of another version, or the changelog does not name
        the version and its date.
    """
    version = tag.removeprefix("v")
    if f'\n__version__ = "{version}"\n' not in package or tag != f"v{version}":
        raise ValueError(
            f"The tag {tag} is not v and __version__ of polysync_airflow/__init__.py: tag again."
        )
    heading = rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n"
    found = re.search(
        rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if not found or not found[1].strip():
        raise ValueError(
            f'CHANGELOG.md has no part "## {version} - <year>-<month>-<day>": write it, and tag again.'
        )
    return re.sub(r"\]\((?!https?://|#)", f"]({source}/blob/{tag}/", found[1].strip())


if __name__ == "__main__":
    raise SystemExit(main())
