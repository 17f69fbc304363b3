"""
The checks that two builds of a release are the same, and that an sdist is complete.
``make release`` runs them, and all other checks, in CI.
"""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.packaging.release import EMULATOR, ReleaseError, check_same, check_sdist


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


COMPLETE = ("LICENSE", "PKG-INFO", "pyproject.toml", ".gitignore")


def sdist(folder: Path, *names: str) -> Path:
    """Make an sdist of the emulator that has these files beside its package."""
    path = folder / "sagemaker_pipelines_emulator-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("sagemaker_emulator/__init__.py", *names):
            archive.addfile(tarfile.TarInfo(f"{path.stem}/{name}"), BytesIO())
    return path


def test_an_sdist_has_the_package_and_its_texts(tmp_path: Path) -> None:
    """A wheel can be built from it."""
    check_sdist(EMULATOR, sdist(tmp_path, *COMPLETE))


@pytest.mark.parametrize(
    "names",
    [(*COMPLETE, "tests/conftest.py"), COMPLETE[1:]],
    ids=["tests", "no licence"],
)
def test_other_contents_of_an_sdist_are_an_error(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Tests cannot run there: they need the repository. A licence must be there."""
    with pytest.raises(ReleaseError, match="should have"):
        check_sdist(EMULATOR, sdist(tmp_path, *names))
