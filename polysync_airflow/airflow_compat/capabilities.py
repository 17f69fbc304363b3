"""
Which features the running Airflow has. The rest of the package asks for these, not for
versions.
"""

from __future__ import annotations

import re
import warnings
from typing import Final, NamedTuple

import airflow


class Capabilities(NamedTuple):
    """
    The features of a version of Airflow on which this provider depends.

    :param task_sdk: tasks, triggers and callbacks reach Airflow through its API server
        and have no access to its database.
    :param retry_policy: an operator has a ``retry_policy``, which decides after a
        failure whether and when Airflow retries the task.
    :param reschedules: it can also reschedule the task: the same try runs again.
    :param trigger_on_kill: Airflow calls ``on_kill`` of a trigger when a user ends its
        task.
    :param links_are_xcoms: the UI shows the extra link that the task has pushed as an
        XCom.
    :param form_from_provider_info: the connection form is made from ``conn-fields`` of
        the provider information, not from the widgets of the hook.
    :param failure_callback_is_final: when a process has died, the DAG processor runs
        the failure callback only if no retry follows.
    :param shared_event_streams: event triggers can share a stream, and are told when
        their events are stored.
    :param start_from_trigger: a task can start in the triggerer, which knows its task
        and DAG run.
    :param variable_keys: tasks, triggers and callbacks can list the keys of Variables.
    :param react_apps: a plugin can add a tab with a React component of its own to the
        page of a task instance.
    :param triggerer_callbacks: listeners in the scheduler and in the API server can let
        a triggerer call a coroutine function.
    :param callbacks_need_session: a row for that is queued with its session.
    :param run_marks_skip_tasks: a DAG run that is marked as success skips its tasks
        that wait, and calls the listeners of tasks for those that run.
    """

    task_sdk: bool
    retry_policy: bool
    reschedules: bool
    trigger_on_kill: bool
    links_are_xcoms: bool
    form_from_provider_info: bool
    failure_callback_is_final: bool
    shared_event_streams: bool
    start_from_trigger: bool
    variable_keys: bool
    react_apps: bool
    triggerer_callbacks: bool
    callbacks_need_session: bool
    run_marks_skip_tasks: bool


# A test compares it with the versions of ``make matrix``.
NEWEST_TESTED: Final = (3, 4)
_LOSES_TRIGGERS: Final = (
    "its triggerer loses the triggers of all tasks when a trigger's thread reads a"
    " connection"
)
_LOSES_RETRIES: Final = "its scheduler does not retry a task whose process was killed"
# docs/reference/versions.md has the bug.
_SCHEDULER_EXITS: Final = ("3.4.0b1", "3.4.0b2")


def capabilities_of(version: str) -> Capabilities:
    """
    Return the features of a version of Airflow.

    :param version: the version, such as ``3.3.1`` or ``3.4.0rc1``.
    :raises ImportError: this provider does not support the version.
    """
    release = _minor(version)
    reason = _reason_against(release)
    if reason:
        raise ImportError(
            f"polysync-airflow does not support Airflow {version}: {reason}. Install"
            " Airflow 2.11, or 3.2 or newer."
        )
    is_3 = release >= (3, 0)
    is_3_3 = release >= (3, 3)
    return Capabilities(
        task_sdk=is_3,
        retry_policy=is_3_3,
        reschedules=release >= (3, 4),
        trigger_on_kill=is_3_3,
        links_are_xcoms=is_3,
        form_from_provider_info=is_3,
        failure_callback_is_final=is_3_3 or not is_3,
        shared_event_streams=is_3_3,
        start_from_trigger=is_3_3,
        variable_keys=is_3_3,
        react_apps=is_3,
        triggerer_callbacks=is_3,
        callbacks_need_session=is_3_3,
        run_marks_skip_tasks=is_3_3,
    )


def _reason_against(release: tuple[int, int]) -> str | None:
    """Return why this provider does not support a release; None if it does."""
    if release < (2, 11):
        return "it is too old"
    if release == (3, 0):
        return f"{_LOSES_TRIGGERS}, and {_LOSES_RETRIES}"
    if release == (3, 1):
        return _LOSES_TRIGGERS
    return None


def warnings_of(version: str) -> list[str]:
    """
    Return what users must know before they rely on a supported version of Airflow.

    :param version: the version, such as ``3.5.0``.
    """
    texts = []
    if _minor(version) > NEWEST_TESTED:
        newest = ".".join(map(str, NEWEST_TESTED))
        texts.append(
            f"polysync-airflow is not tested on Airflow {version}, only up to Airflow"
            f" {newest}. Not tested are that a task has at most one execution when"
            " processes die or users clear tasks, that executions are stopped with"
            " their tasks, the connection form, and the tab. Try it where two"
            f" executions of a pipeline do no harm, or install Airflow {newest}."
        )
    if version in _SCHEDULER_EXITS:
        texts.append(
            f"The scheduler of Airflow {version} exits when it finds that the process"
            " of a task with retries left has died. No provider can prevent this. Do"
            ' not use this version in production. The page "Airflow 3.4" of the'
            " documentation of polysync-airflow has the cause and a cure."
        )
    return texts


def _minor(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        return 0, 0
    return int(match[1]), int(match[2])


CAPABILITIES: Final = capabilities_of(airflow.__version__)
for _text in warnings_of(airflow.__version__):
    warnings.warn(_text, stacklevel=2)
