"""The process of a task whose supervisor has died."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.airflow_compat import supervisor
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.supervisor import (
    exit_if_orphaned,
    exit_if_replaced,
)
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, TaskInstance, run_task


def behave_as(monkeypatch: pytest.MonkeyPatch, *, task_sdk: bool) -> None:
    """Behave as on Airflow 3, or 2. An error stands for the end of the process."""
    capabilities = CAPABILITIES._replace(task_sdk=task_sdk)
    monkeypatch.setattr(supervisor, "CAPABILITIES", capabilities)
    monkeypatch.setattr(os, "_exit", leave)


@pytest.mark.parametrize(("task_sdk", "is_orphan"), [(False, False), (True, True)])
def test_process_goes_on_while_its_supervisor_lives(
    task_sdk: bool, is_orphan: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing happens while the supervisor lives, or, on Airflow 3, when it has died.
    """
    behave_as(monkeypatch, task_sdk=task_sdk)
    warnings: list[str] = []

    exit_if_orphaned(os.getppid() + is_orphan, warnings.append)

    assert warnings == []


class ExitedError(BaseException):
    """Raised in place of the end of the process, which no code notices."""


def leave(status: int) -> None:
    """Stand in for ``os._exit``."""
    raise ExitedError


@pytest.mark.parametrize(
    ("newest", "ti", "task_sdk", "exits"),
    [
        (2, {"raw": True}, False, True),
        (1, {"raw": True}, False, False),
        (None, {"raw": True}, False, False),
        (ConnectionError("no database"), {"raw": True}, False, False),
        (2, {"raw": False}, False, False),
        (2, {}, False, False),
        (2, {"raw": True}, True, False),
    ],
    ids=[
        "later try",
        "own try",
        "deleted",
        "unknown",
        "not a task",
        "test",
        "Airflow 3",
    ],
)
def test_process_of_an_earlier_try(
    newest: Any,
    ti: dict[str, bool],
    task_sdk: bool,
    exits: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Airflow 2, it ends without a result, which would be that of the later try."""

    def newest_try_number(_: Any) -> Any:
        if isinstance(newest, Exception):
            raise newest
        return newest

    behave_as(monkeypatch, task_sdk=task_sdk)
    monkeypatch.setattr(supervisor, "newest_try_number", newest_try_number)
    warnings: list[str] = []
    exited = False
    try:
        exit_if_replaced(SimpleNamespace(try_number=1, **ti), warnings.append)
    except ExitedError:
        exited = True

    assert exited is exits
    assert bool(warnings) is (exits or isinstance(newest, Exception))


def test_wait_ends_with_the_begin_of_a_later_try(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A process that was frozen in its wait does not poll on beside that of the later try,
    and stops nothing.
    """
    behave_as(monkeypatch, task_sdk=False)
    monkeypatch.setattr(
        supervisor,
        "newest_try_number",
        lambda _: 2 if len(emulated_time.slept) > 2 else 1,
    )
    ti: Any = TaskInstance("train")
    ti.raw = True

    with pytest.raises(ExitedError):
        run_task(
            PolysyncStartPipelineOperator(
                task_id="train", pipeline_name="churn-tuning"
            ),
            ti,
        )

    assert len(emulated_time.slept) == 3
