"""Owns the marks: notes that a task's process leaves for the suite, and that survive its kill."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

# Read in the tasks' processes, which inherit it from the scheduler.
FOLDER_VARIABLE: Final = "POLYSYNC_CHAOS_MARKS"


def leave(pipeline: str, name: str, **about: Any) -> None:
    """
    Leave a mark about the run that a pipeline belongs to.

    :param pipeline: the pipeline.
    :param name: what happened.
    :param about: anything that is JSON.
    """
    mark = Path(os.environ[FOLDER_VARIABLE]) / f"{pipeline}.{name}.json"
    # Whoever reads it must not see half of it.
    unfinished = mark.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(about))
    unfinished.rename(mark)


def find(folder: Path, pipeline: str, name: str) -> dict[str, Any] | None:
    """
    Return what a mark is about; None if there is none.

    :param folder: where the marks lie.
    :param pipeline: the pipeline of the run.
    :param name: what happened.
    """
    mark = folder / f"{pipeline}.{name}.json"
    return dict(json.loads(mark.read_text())) if mark.exists() else None
