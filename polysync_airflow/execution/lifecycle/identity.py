"""
The identity of a start: the task instance that it belongs to, and the how many-th start of an epoch it is.

The client token and the default display name follow from it. So a try that finds no record of the earlier
tries sends the same token as they did, and AWS returns the execution that it has already started; and what
AWS lists and describes tells of itself which task has started it.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import astuple, dataclass
from typing import Any, Final

from polysync_airflow.execution.models import DISPLAY_NAME_MAX
from polysync_airflow.execution.record import Incarnation, StoredExecution

_TASK_DIGITS: Final = 10
_INCARNATION_DIGITS: Final = 12
_NAME_END: Final = re.compile(
    rf"(?:^|-)([0-9a-f]{{{_TASK_DIGITS}}})-([0-9a-f]{{{_INCARNATION_DIGITS}}})-([0-9]{{1,9}})-([0-9]{{1,9}})$"
)


@dataclass(frozen=True)
class TaskKey:
    """What identifies a task instance, in all of its tries."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, ti: Any) -> TaskKey:
        """Return the key of a task instance."""
        map_index = -1 if ti.map_index is None else ti.map_index
        return cls(ti.dag_id, ti.run_id, ti.task_id, map_index)


@dataclass(frozen=True, slots=True)
class StartName:
    """
    What the display name of an execution says of its start.

    :param task_mark: see ``TaskIdentity``.
    :param incarnation_mark: a digest of the task instance and its incarnation.
    """

    task_mark: str
    incarnation_mark: str
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """
    What the starts of a task instance have in common.

    :param task_marks: digests of the task instance, made with the keys of the deployment, the current one
        first. Another deployment with the same DAG has other ones.
    :param nonce: set if the start of the DAG run does not tell it from another one with the same run id.
    """

    key: TaskKey
    incarnation: Incarnation
    task_marks: tuple[str, ...] = ()
    nonce: str = ""

    def token(self, epoch: int, number: int) -> str:
        """
        Return the client token of a start.

        :param number: how many starts of the epoch came before it.
        """
        return f"{self._token_prefix(epoch)}-{number}"

    def display_name(self, epoch: int, number: int) -> str:
        """
        Return the default display name of a start.

        AWS does not accept run ids such as ``scheduled__2026-01-01T00:00:00+00:00``, and run ids that differ
        only at the end would be equal after truncation. So the name ends with digests.
        """
        key = self.key
        text = re.sub(r"[^A-Za-z0-9]+", "-", f"{key.dag_id}/{key.task_id}/{key.run_id}")
        index = () if key.map_index < 0 else (str(key.map_index),)
        mark = self.task_marks[0] if self.task_marks else task_mark(digest(key))
        end = "-".join((*index, mark, self.incarnation_mark, str(epoch), str(number)))
        return f"{text[: DISPLAY_NAME_MAX - len(end) - 1].rstrip('-')}-{end}".lstrip("-")

    @property
    def incarnation_mark(self) -> str:
        """A digest of the task instance and its incarnation, for the display name."""
        return self._digest()[:_INCARNATION_DIGITS]

    def next_number(self, record: StoredExecution | None, epoch: int) -> int:
        """Return the number of the next start of an epoch, after that of a record."""
        if record is None:
            return 0
        prefix, _, number = record.request.client_request_token.rpartition("-")
        return int(number) + 1 if prefix == self._token_prefix(epoch) and number.isdecimal() else 0

    def _token_prefix(self, epoch: int) -> str:
        return f"polysync-{self._digest(epoch)[:40]}"

    def _digest(self, *parts: int) -> str:
        started_at = self.incarnation.dag_run_started_at
        run = (started_at.isoformat() if started_at else None, self.incarnation.region, self.nonce)
        return digest(self.key, *run, *parts)


def digest(key: TaskKey, *parts: object) -> str:
    """Return a digest of a task instance and of what else tells its starts apart, as hexadecimal digits."""
    return hashlib.sha256(json.dumps([astuple(key), *parts]).encode()).hexdigest()


def task_mark(hexadecimal: str) -> str:
    """Return the digits of a keyed digest that stand in a display name."""
    return hexadecimal[:_TASK_DIGITS]


def read_name(*texts: str | None) -> StartName | None:
    """
    Return what an execution says of its start; None if none of its texts ends as ``display_name`` does.

    :param texts: its display name and its description.
    """
    for text in texts:
        found = _NAME_END.search(text) if text else None
        if found:
            task, incarnation, epoch, number = found.groups()
            return StartName(task, incarnation, int(epoch), int(number))
    return None
