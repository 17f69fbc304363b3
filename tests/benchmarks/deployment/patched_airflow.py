"""Makes a copy of the installed Airflow in which its triggerer is patched."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

PACKAGE: Final = "airflow"
MODULE: Final = Path(PACKAGE, "jobs", "triggerer_job_runner.py")
# In Airflow's repository, to which the patch belongs, the module is in
# ``airflow-core/src``.
LEADING_FOLDERS: Final = 3


@contextmanager
def patched_airflow(patch: Path) -> Iterator[Path]:
    """
    Yield a folder for PYTHONPATH that has Airflow's package: links to what is
    installed, and the patched module.

    :param patch: a unified diff of Airflow's repository.
    :raises subprocess.CalledProcessError: it does not apply to the installed module.
    """
    spec = find_spec(PACKAGE)
    assert spec
    assert spec.origin
    installed = Path(spec.origin).parents[1]
    with tempfile.TemporaryDirectory(prefix="polysync-airflow-") as name:
        folder = Path(name)
        _link(installed / PACKAGE, folder / PACKAGE, without=MODULE.parts[1])
        _link(
            installed / MODULE.parent, folder / MODULE.parent, without=MODULE.parts[2]
        )
        shutil.copy(installed / MODULE, folder / MODULE)
        subprocess.run(
            [
                *("git", "apply", f"-p{LEADING_FOLDERS}"),
                *("--include", str(MODULE), str(patch.resolve())),
            ],
            cwd=folder,
            check=True,
        )
        yield folder


def _link(source: Path, target: Path, *, without: str) -> None:
    """Make a folder of links to the entries of another one, except for one of them."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.name not in (without, "__pycache__"):
            (target / entry.name).symlink_to(entry)
