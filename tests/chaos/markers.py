"""
Marker files, in which a task's process records facts for the suite. They remain when
the process is killed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

# The processes of the tasks inherit this variable from the scheduler.
FOLDER_VARIABLE: Final = "POLYSYNC_CHAOS_MARKERS"
# Written by a process that kills itself.
KILLED: Final = "killed"


def write(pipeline: str, name: str, **facts: Any) -> None:
    """
    Write a marker file for a run of the suite.

    :param pipeline: the pipeline, which identifies the run.
    :param name: the name of the marker.
    :param facts: the content; must be JSON serializable.
    """
    marker = Path(os.environ[FOLDER_VARIABLE]) / f"{pipeline}.{name}.json"
    # Written under another name first, so that a reader never reads an incomplete file.
    unfinished = marker.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(facts))
    unfinished.rename(marker)


def was_killed(pipeline: str) -> bool:
    """
    Return whether a process of a run of the suite has killed itself. For a task's
    process.

    :param pipeline: the pipeline, which identifies the run.
    """
    return read(Path(os.environ[FOLDER_VARIABLE]), pipeline, KILLED) is not None


def read(folder: Path, pipeline: str, name: str) -> dict[str, Any] | None:
    """
    Return the content of a marker file; None if it does not exist.

    :param folder: the folder of the marker files.
    :param pipeline: the pipeline, which identifies the run.
    :param name: the name of the marker.
    """
    marker = folder / f"{pipeline}.{name}.json"
    return dict(json.loads(marker.read_text())) if marker.exists() else None
