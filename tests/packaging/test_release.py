"""
The check that two builds of a release are the same. ``make release`` runs it, and all
other checks, in CI.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.release import ReleaseError, check_same


@pytest.mark.parametrize(
    "changed",
    [{"a.whl": "other"}, {"b.tar.gz": "contents"}],
    ids=["contents", "another file"],
)
def test_a_difference_is_noticed(tmp_path: Path, changed: dict[str, str]) -> None:
    """Two builds are the same if all of their files are."""

    def build(name: str, files: dict[str, str]) -> list[Path]:
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        return list(folder.iterdir())

    files = {"a.whl": "contents"}
    one = build("one", files)
    check_same(one, build("two", files))
    with pytest.raises(ReleaseError, match="differ"):
        check_same(one, build("three", files | changed))
