"""The DAGs whose file the suite edits while their tasks wait."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[1] / "dags" / "edited.py"
DAG_IDS: Final = ("polysync_44a", "polysync_44b", "polysync_44c", "polysync_44d")
ARGUMENTS: Final = re.compile(r"^ARGUMENTS\b.*?^\}$", re.DOTALL | re.MULTILINE)


class EditedDags:
    """
    The DAGs, each in a copy of the same file.

    :param folder: the folder to make for them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for dag_id in DAG_IDS:
            shutil.copyfile(FILE, self._file(dag_id))

    def edit(self, dag_id: str, arguments: Mapping[str, Any]) -> None:
        """
        Edit the file of a DAG.

        :param arguments: the new arguments of its task.
        """
        file = self._file(dag_id)
        content = ARGUMENTS.sub(
            lambda _: f"ARGUMENTS = {arguments!r}", file.read_text()
        )
        # The DAG processor must not read half of the file.
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(content)
        unfinished.rename(file)

    def _file(self, dag_id: str) -> Path:
        return self.folder / f"{dag_id}.py"
