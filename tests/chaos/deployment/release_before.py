"""The release of the package before, from the history of the repository."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from tests.system.process.sessions import ProcessError

# What a deployment goes back to, and is upgraded from: the last commit before the
# changes that are not released.
COMMIT: Final = "a61349f1313477ab5066fe2da17c51f548410060"
REPOSITORY: Final = Path(__file__).parents[3]


def export(folder: Path) -> Path:
    """
    Write the package of the release to a folder, and return the folder.

    :raises ProcessError: git does not have the commit.
    """
    command = ["git", "archive", COMMIT, "polysync_airflow"]
    completed = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, check=False
    )
    if completed.returncode:
        raise ProcessError(completed.stderr.decode(errors="replace"))
    with tarfile.open(fileobj=io.BytesIO(completed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def is_available() -> bool:
    """Return whether git has the commit, which it has not in a shallow clone."""
    command = ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"]
    return (
        subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, check=False
        ).returncode
        == 0
    )
