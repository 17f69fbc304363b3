"""
A process that runs the operators and the trigger belongs to others as well: nothing in
it is changed.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import re
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
)
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, run_task
from tests.unit.operators.recovery.conftest import MakeSupervisor, make_supervisor  # noqa: F401 # a fixture
from tests.unit.operators.recovery.fake_triggerer import call_on_kill, make_trigger

BOTOCORE_MODULES = (
    "auth",
    "client",
    "credentials",
    "endpoint",
    "loaders",
    "parsers",
    "session",
)
# Seconds that a thread may need to end.
THREAD_TIMEOUT = 10.0


def start(*, deferrable: bool) -> str:
    """Run an execution from its start to its end; return its ARN."""
    run = run_task(
        PolysyncStartPipelineOperator(
            task_id="train",
            pipeline_name="fanout",
            deferrable=deferrable,
            poll_interval=60,
        )
    )
    assert run.error is None, run.error
    assert run.xcoms["state"] == "Success"
    assert (run.trigger is not None) == deferrable
    return str(run.result)


def start_on_the_worker() -> None:
    """Run an execution with a wait on the worker."""
    start(deferrable=False)


def start_deferred() -> None:
    """Run an execution with a deferred wait."""
    start(deferrable=True)


def list_import() -> None:
    """Import all pipelines."""
    run = run_task(PolysyncListImportOperator(task_id="import"))
    assert run.error is None, run.error
    assert len(run.result) == 5


def kill_deferred_task() -> None:
    """Stop the execution of a deferred task that a user has ended."""
    run = run_task(
        PolysyncStartPipelineOperator(
            task_id="train", pipeline_name="fanout", wait_for_completion=False
        )
    )
    call_on_kill(make_trigger(run.result))


def loggers() -> list[logging.Logger]:
    """Return all loggers of the process."""
    named = logging.Logger.manager.loggerDict.values()
    return [
        logging.getLogger(),
        *(each for each in named if isinstance(each, logging.Logger)),
    ]


def botocore_modules() -> list[ModuleType]:
    """Return the botocore modules in which the provider might change something."""
    return [importlib.import_module(f"botocore.{name}") for name in BOTOCORE_MODULES]


def botocore_classes() -> list[type]:
    """Return the public classes of these modules."""
    return [
        value
        for module in botocore_modules()
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and name[0] != "_"
    ]


class Snapshot:
    """
    What all users of a process share: the garbage collector, the loggers and botocore.
    """

    def __init__(self) -> None:
        self.garbage_collector = (
            gc.isenabled(),
            gc.get_threshold(),
            [*gc.callbacks],
        )
        self.frozen = gc.get_freeze_count()
        self.loggers = {logger: self._settings(logger) for logger in loggers()}
        self.attributes = {
            owner: dict(vars(owner))
            for owner in (*botocore_modules(), *botocore_classes())
        }

    @staticmethod
    def _settings(logger: logging.Logger) -> tuple[Any, ...]:
        return (
            [*logger.filters],
            [*logger.handlers],
            logger.level,
            logger.propagate,
            logger.disabled,
        )

    def differences(self) -> list[str]:
        """Return what has changed since the snapshot."""
        now = Snapshot()
        changes = []
        if now.garbage_collector != self.garbage_collector:
            changes.append(f"gc: {self.garbage_collector} -> {now.garbage_collector}")
        # The tests freeze what they import. Some of it may end, which lowers the count.
        if now.frozen > self.frozen or (self.frozen and not now.frozen):
            changes.append(f"gc: {self.frozen} -> {now.frozen} frozen objects")
        for logger, settings in self.loggers.items():
            if self._settings(logger) != settings:
                changes.append(
                    f"logger {logger.name}: {settings} -> {self._settings(logger)}"
                )
        for owner, attributes in self.attributes.items():
            new_attributes = now.attributes[owner]
            for name in attributes.keys() | new_attributes.keys():
                if attributes.get(name) is not new_attributes.get(name):
                    changes.append(f"{owner}.{name}")
        return changes


def own_objects_in_the_process() -> list[str]:
    """
    Return the filters, handlers, callbacks and attributes of botocore that come from
    this provider.
    """
    objects: list[tuple[str, Any]] = [("a gc callback", each) for each in gc.callbacks]
    for logger in loggers():
        objects += [
            (f"logger {logger.name}", each)
            for each in (*logger.filters, *logger.handlers)
        ]
    owners: list[Any] = [*botocore_modules(), *botocore_classes()]
    for owner in owners:
        objects += [
            (f"{owner.__name__}.{name}", value) for name, value in vars(owner).items()
        ]
    return [where for where, value in objects if "polysync" in _origin(value)]


def _origin(value: Any) -> str:
    value = getattr(value, "__func__", value)
    return str(getattr(value, "__module__", None) or type(value).__module__)


def own_threads() -> set[threading.Thread]:
    """Return this provider's threads that are alive."""
    return {each for each in threading.enumerate() if each.name.startswith("polysync-")}


def threads_left(others: set[threading.Thread]) -> set[threading.Thread]:
    """
    Return this provider's threads that are alive after a time in which they can end.

    :param others: those of earlier tests, whose Airflow or AWS may not have responded
        yet.
    """
    deadline = time.monotonic() + THREAD_TIMEOUT
    while (left := own_threads() - others) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


@pytest.mark.parametrize(
    "work", [start_on_the_worker, start_deferred, list_import, kill_deferred_task]
)
def test_nothing_in_the_process_is_changed(
    work: Callable[[], None],
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    make_supervisor: MakeSupervisor,  # noqa: F811
) -> None:
    """
    After whole runs, garbage collector, loggers and botocore's classes are as before,
    and no thread is left.
    """
    make_supervisor("failed")
    others = own_threads()
    # The first run imports modules, and botocore fills its own caches.
    work()
    before = Snapshot()

    work()

    assert before.differences() == []
    # What the first run may have changed already.
    assert own_objects_in_the_process() == []
    assert threads_left(others) == set()


def test_differences_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The comparison itself finds a changed logger, class, module and garbage collector.
    """
    from botocore import auth, parsers

    before = Snapshot()
    logger = logging.getLogger("botocore.parsers")
    monkeypatch.setattr(logger, "filters", [*logger.filters, lambda record: True])
    monkeypatch.setattr(parsers.ResponseParser, "parse", start)
    monkeypatch.setattr(auth.SigV4Auth, "new_attribute", 1, raising=False)
    monkeypatch.setattr(auth, "logger", logging.getLogger("other"))
    monkeypatch.setattr(gc, "callbacks", [print])
    monkeypatch.setattr(gc, "get_freeze_count", lambda: before.frozen + 1)

    differences = "\n".join(before.differences())

    for text in (
        "logger botocore.parsers:",
        "ResponseParser'>.parse",
        "SigV4Auth'>.new_attribute",
        "gc: (",
        "frozen objects",
    ):
        assert text in differences
    assert re.search(r"botocore.auth. from .*logger", differences)
    monkeypatch.setattr(
        parsers.ResponseParser, "parse", PolysyncListImportOperator.execute
    )
    assert own_objects_in_the_process() == ["ResponseParser.parse"]
