"""
Faults that histories must find: what was seen, and decisions that are taken wrongly.

A fault is a change of a module's text. It is put in when the module is imported, so
that no file changes::

    make simulation ARGS=--faults               how many histories find each of them
    make simulation ARGS="search 0 200 --fault two-at-once"
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, NamedTuple

MAX_HISTORIES: Final = 2000


class Fault(NamedTuple):
    """
    A change of a module.

    :param finds: the statement of the oracle that must not hold with it.
    :param old: the text that is replaced, which the module has once.
    """

    name: str
    finds: str
    module: str
    old: str
    new: str


_LIFECYCLE: Final = "polysync_airflow.execution.lifecycle"
FAULTS: Final = (
    Fault(
        "starts beside one that runs",
        "TWO AT ONCE",
        f"{_LIFECYCLE}.decisions",
        "        return Command.WAIT_FOR_END\n    return Command.STOP\n",
        "        return Command.WAIT_FOR_END\n    return Command.PREPARE\n",
    ),
    Fault(
        "does not wait for the end of a stop",
        "TWO AT ONCE",
        f"{_LIFECYCLE}.decisions",
        "    if status == states.STATUS_STOPPING:\n"
        "        return Command.WAIT_FOR_END\n    if not has_ended(status):\n",
        "    if status == states.STATUS_STOPPING:\n"
        "        return Command.PREPARE\n    if not has_ended(status):\n",
    ),
    Fault(
        "takes a cleared task without a record for a first try",
        "TWO AT ONCE",
        f"{_LIFECYCLE}.machine",
        "    if task_try.number == 1 and task_try.unproven is None:\n",
        "    if True:\n",
    ),
    Fault(
        "a process that was frozen is not asked whether it is still current",
        "TWO AT ONCE",
        "polysync_airflow.operators.try_runner",
        "                store.confirm()\n",
        "                pass\n",
    ),
    Fault(
        "takes a retry for a clear",
        "NO REASON",
        f"{_LIFECYCLE}.decisions",
        "    if record.epoch == epoch:\n        return _for_retry(",
        "    if False:\n        return _for_retry(",
    ),
    Fault(
        "takes the stop of an earlier try for that of a user",
        "NOT CANCELLED",
        f"{_LIFECYCLE}.ending",
        "if stopped_by and stopped_by < try_number:",
        "if stopped_by and stopped_by > try_number:",
    ),
    Fault(
        "a resume keeps the stop of the attempt before",
        "BEGUN AGAIN",
        f"{_LIFECYCLE}.resuming",
        '        "stop_requested_by": None,\n',
        "",
    ),
    Fault(
        "stops although Airflow does not say whose it is",
        "NO REASON",
        f"{_LIFECYCLE}.ending",
        "    Owner.UNKNOWN: (\n",
        "    None: (\n",
    ),
    Fault(
        "a trigger that has moved stops its execution",
        "NO REASON",
        f"{_LIFECYCLE}.ending",
        "    if state == DEFERRED:\n        return Owner.OTHER_TRIGGER\n",
        "",
    ),
    Fault(
        "a retry forgets what was spent",
        "TOO EXPENSIVE",
        f"{_LIFECYCLE}.instructions",
        "        if self.spent is None or self.spent.epoch != epoch:\n"
        "            return limit\n",
        "        return limit\n",
    ),
    Fault(
        "the end of a DAG run tells nobody",
        "LEFT RUNNING",
        "polysync_airflow.watch.listeners",
        "        for task in tasks:\n",
        "        for task in ():\n",
    ),
    Fault(
        "a try does not look whether its task has ended while it started",
        "LEFT RUNNING",
        "polysync_airflow.operators.try_runner",
        "        if instruction.started_at:\n",
        "        if False:\n",
    ),
    Fault(
        "a trigger leaves the stop at the timeout to a worker",
        "TOO LONG",
        f"{_LIFECYCLE}.ending",
        '    outcomes: list[UnendedOutcome] = ["timed_out"]\n',
        "    outcomes: list[UnendedOutcome] = []\n",
    ),
    Fault(
        "a clear is told to resume, and starts anew",
        "TEXT",
        f"{_LIFECYCLE}.decisions",
        '    if options.on_clear == "resume" and not _counts_as_success(',
        '    if options.on_clear == "never" and not _counts_as_success(',
    ),
    Fault(
        "a retry is told to resume, and starts anew",
        "TEXT",
        f"{_LIFECYCLE}.decisions",
        '    if options.retry_mode == "resume":\n        return _continue(',
        '    if options.retry_mode == "never":\n        return _continue(',
    ),
    Fault(
        "a trigger without a record takes its execution for one of its deployment",
        "OTHER DEPLOYMENT",
        f"{_LIFECYCLE}.ending",
        "    return stored is None and owner in (Owner.THIS_TRY, Owner.NOBODY)\n",
        "    return False\n",
    ),
    Fault(
        "a clear of some steps counts as one of all",
        "NO REASON",
        "polysync_airflow.execution.step_clears",
        "return ClearedSteps(cleared, are_all=not kept)\n",
        "return ClearedSteps(cleared, are_all=True)\n",
    ),
    Fault(
        "the watch gets no queue",
        "LEFT RUNNING",
        f"{_LIFECYCLE}.orphans",
        "    if not served or task_queue in served:\n        return task_queue\n",
        "    if True:\n        return None\n",
    ),
    Fault(
        "a trigger does not look again at a task that is queued",
        "NO REASON",
        f"{_LIFECYCLE}.ending",
        "    return state == _QUEUED\n",
        "    return False\n",
    ),
    Fault(
        "Airflow returns no deferred task to a worker",
        "TOO LONG",
        "polysync_airflow.operators.base",
        "    return timedelta(seconds=seconds_left + TRIGGER_GRACE_SECONDS)\n",
        "    return timedelta(days=30)\n",
    ),
    Fault(
        "each stop has a token of its own",
        "TOKENS",
        "polysync_airflow.hooks.executions",
        "        if attempt is None:\n            number = uuid",
        "        if True:\n            number = uuid",
    ),
    Fault(
        "a throttled request fails the try",
        "NO CAUSE",
        "polysync_airflow.aws.retry",
        "        return isinstance(error, PolysyncError) and error.transient\n",
        "        return False\n",
    ),
    Fault(
        "a stopped execution counts as a success",
        "RESULT",
        "polysync_airflow.states",
        '    "Stopped": PolysyncState.CANCELLED,\n',
        '    "Stopped": PolysyncState.SUCCESS,\n',
    ),
    Fault(
        "the sweep takes each task for one that has ended",
        "NO REASON",
        f"{_LIFECYCLE}.orphans",
        "    if task.state not in ENDED_STATES:\n",
        "    if False:\n",
    ),
)


def named(name: str) -> Fault:
    """Return a fault."""
    return next(each for each in FAULTS if each.name == name)


def put_in(fault: Fault) -> None:
    """Change a module, which must not be imported yet."""
    if fault.module in sys.modules:
        raise ValueError(f"{fault.module} is imported already")
    sys.meta_path.insert(0, _Finder(fault))


class _Finder(MetaPathFinder):
    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self._fault.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec
        assert spec.origin
        loader = _Loader(self._fault, spec.origin)
        return importlib.util.spec_from_file_location(
            fullname, spec.origin, loader=loader
        )


class _Loader(SourceFileLoader):
    def __init__(self, fault: Fault, path: str) -> None:
        super().__init__(fault.module, path)
        self._fault = fault

    def get_code(self, fullname: str) -> CodeType:
        # Never from a cache, which has the module as it is.
        text = changed(self._fault, Path(self.path).read_text())
        code: CodeType = compile(text, self.path, "exec", dont_inherit=True)
        return code


def changed(fault: Fault, text: str) -> str:
    """
    Return the text of a module with a fault.

    :raises ValueError: the module does not have the text that is replaced, once.
    """
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.module} has not once: {fault.old}")
    return text.replace(fault.old, fault.new)


def find_all() -> int:
    """
    Print how many histories find each fault.

    :return: the exit status: 1 if one is not found.
    """
    missed = 0
    for fault in FAULTS:
        command = [sys.executable, "-m", "tests.simulation", "search", "0"]
        command += [str(MAX_HISTORIES), "--fault", fault.name, "--until", fault.finds]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines() or [done.stderr]
        is_found = lines[-1].startswith(fault.finds)
        missed += not is_found
        print(f"{fault.name}: {lines[-1]}", flush=True)
    return int(missed > 0)
