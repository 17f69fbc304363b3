"""The check of a release's tag, and the notes of the release."""

from __future__ import annotations

import pytest

from tests.packaging.tag import ROOT, notes

PACKAGE = '"""Text."""\n\n__version__ = "1.2.3"\n'
CHANGELOG = """\
# Changelog

## 1.2.3 - 2027-01-31

- A [page](docs/page.md#part), and [another](https://example.com/page.md).

## 1.2.2 - 2027-01-01

- Old.
"""
SOURCE = "https://example.com/owner/name"


def test_notes_are_the_part_of_the_changelog() -> None:
    """Links lead to the files of the tag, wherever the notes are shown."""
    link = f"[page]({SOURCE}/blob/v1.2.3/docs/page.md#part)"

    assert notes("v1.2.3", PACKAGE, CHANGELOG, SOURCE) == (
        f"- A {link}, and [another](https://example.com/page.md)."
    )


@pytest.mark.parametrize("tag", ["v1.2.4", "1.2.3", "vv1.2.3", "v1.2", "v1.2.3 "])
def test_tag_of_another_version_is_refused(tag: str) -> None:
    """A tag is the letter v and the version of the package."""
    with pytest.raises(ValueError, match="is not v and __version__"):
        notes(tag, PACKAGE, CHANGELOG, SOURCE)


@pytest.mark.parametrize(
    "heading", ["Unreleased", "1.2.3", "1.2.30 - 2027-01-31", "1x2.3 - 2027-01-31"]
)
def test_changelog_must_name_the_version_and_its_date(heading: str) -> None:
    """A release whose changes are still called unreleased is not published."""
    changelog = CHANGELOG.replace("1.2.3 - 2027-01-31", heading)

    with pytest.raises(ValueError, match=r"CHANGELOG\.md has no part"):
        notes("v1.2.3", PACKAGE, changelog, SOURCE)


def test_files_of_the_repository_have_the_form_that_is_read() -> None:
    """The version is found in the real module."""
    version = (
        (ROOT / "polysync_airflow/__init__.py")
        .read_text()
        .rpartition('__version__ = "')[2]
        .split('"')[0]
    )
    package = (ROOT / "polysync_airflow/__init__.py").read_text()

    assert notes(f"v{version}", package, CHANGELOG.replace("1.2.3", version), SOURCE)
