"""
The pods of the cluster: what the API says of each, the history of the changes, and the
processes.

The first process of a pod has the process id 1 in a namespace of its own, as that of a
container: it ignores the signals for which it has no handler, and all others are killed
when it ends. A pod outlives the scheduler that has created it.
"""

from __future__ import annotations

import asyncio
import copy
import signal
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from tests.chaos.deployment.kubernetes.requests import NewPod, PodPatch, Selector
from tests.system.process.sessions import ProcessError, ProcessSession, end_all

JsonObject = dict[str, Any]
ENTRY_POINT: Final = "dumb-init"
ENDED: Final = ("Succeeded", "Failed")
# Airflow tells the processes of a task apart by host name and process id, and the ids
# of a namespace repeat.
_NAMED: Final = ("sh", "-c", 'hostname "$0"; exec "$@"')
_NAMESPACES: Final = (
    "unshare",
    "--pid",
    "--uts",
    "--fork",
    "--mount-proc",
    "--kill-child",
    "--",
)
_POLL_SECONDS: Final = 0.1
_HISTORY: Final = 1000


class ApiError(Exception):
    """
    Raised when a request cannot be answered.

    :param status: the status of the response.
    :param reason: the reason, as one of Kubernetes's API.
    :param message: what is wrong.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class Pod:
    """
    A pod for those who end its processes.

    :param annotations: the annotations, which name the task of the pod.
    :param session: the processes. The first one is outside of the namespace.
    """

    def __init__(self, annotations: Mapping[str, str], session: ProcessSession) -> None:
        self.annotations, self.session = annotations, session
        self.name = session.name
        # Its node is lost: what the API asks of it waits.
        self.unproven = False

    @property
    def runs(self) -> bool:
        """Whether the first process of the pod runs."""
        return bool(self._processes())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the first process of the container, if it runs."""
        with suppress(psutil.NoSuchProcess, IndexError):
            self._processes()[0].send_signal(number)

    def kill(self) -> None:
        """Kill all processes of the pod."""
        self.send(signal.SIGKILL)

    def kill_task(self) -> None:
        """
        Kill the process of the task, as the kernel does if the memory of the pod is
        used up.
        """
        processes = self._processes()
        # The task is the child of the process that Airflow calls the supervisor.
        supervisor = 1 if processes and processes[0].name() == ENTRY_POINT else 0
        if len(processes) <= supervisor + 1:
            raise ProcessError(f"{self.name} has no process of a task: {processes}")
        processes[supervisor + 1].kill()

    def lose(self) -> None:
        """Freeze all processes, of which the API then learns nothing more."""
        self.unproven = True
        self._signal_all(signal.SIGSTOP)

    def come_back(self) -> None:
        """Let the processes of the lost node continue."""
        self._signal_all(signal.SIGCONT)
        self.unproven = False

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        """Return the processes in the namespace, the first one first."""
        with suppress(psutil.NoSuchProcess):
            inside = psutil.Process(self.session.pid).children(recursive=True)
            return [each for each in inside if each.status() != psutil.STATUS_ZOMBIE]
        return []


@dataclass(frozen=True)
class _Change:
    """
    A change of a pod: what the API said of it before and after; None if it did or does
    not exist.
    """

    version: int
    before: JsonObject | None
    after: JsonObject | None

    def event(self, selector: Selector) -> JsonObject | None:
        """
        Return what those learn who watch the pods of a selector; None if they learn
        nothing.
        """
        matched, matches = (
            pod is not None and _matches(selector, pod)
            for pod in (self.before, self.after)
        )
        if matches:
            return {"type": "MODIFIED" if matched else "ADDED", "object": self.after}
        if matched:
            return {
                "type": "DELETED",
                "object": _in_version(self.before or {}, self.version),
            }
        return None


class Pods:
    """
    All pods. Only `created`, `labels` and `kill` may be called outside of the event
    loop of the API.

    :param folder: the folder for the output of their processes.
    :param environment: the environment of each container, to which its own variables
        are added.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._objects: dict[str, JsonObject] = {}
        self._pods: dict[str, Pod] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._history: deque[_Change] = deque(maxlen=_HISTORY)
        self._changed = asyncio.Event()
        self.version = 1

    def created(self, **annotations: str) -> list[Pod]:
        """
        Return all pods that were created with annotations, the oldest first; also those
        that were deleted.
        """
        return [
            pod
            for pod in tuple(self._pods.values())
            if annotations.items() <= pod.annotations.items()
        ]

    def labels(self, pod: Pod) -> JsonObject:
        """Return the labels of a pod; none if it was deleted."""
        return (
            dict(self._objects[pod.name]["metadata"]["labels"])
            if pod.name in self._objects
            else {}
        )

    def kill(self) -> None:
        """
        Kill the processes of all pods.

        :raises ProcessError: if one still runs.
        """
        end_all([pod.session for pod in self.created()], grace=0)

    def select(self, labels: Selector, fields: Selector) -> list[JsonObject]:
        """Return the pods of two selectors."""
        if unknown := fields.keys() - {"status.phase"}:
            raise ApiError(
                400,
                "BadRequest",
                f"fieldSelector has {', '.join(unknown)}; only status.phase is known",
            )
        return [
            pod
            for pod in self._objects.values()
            if _matches(labels, pod)
            and fields.matches({"status.phase": pod["status"]["phase"]})
        ]

    def get(self, name: str) -> JsonObject:
        """
        Return a pod.

        :raises ApiError: there is none.
        """
        if pod := self._objects.get(name):
            return pod
        raise ApiError(404, "NotFound", f"there is no pod {name[:100]!r}")

    def create(self, new: NewPod) -> JsonObject:
        """
        Create a pod, and start its processes.

        :raises ApiError: there is one with this name.
        """
        name = new.metadata.name
        if name in self._objects:
            raise ApiError(409, "AlreadyExists", f"there is a pod {name!r}")
        pod = new.model_dump(mode="json", by_alias=True, exclude_none=True)
        pod["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        pod["status"] = {"phase": "Pending"}
        self._change(name, pod)
        self._do(self._run(new))
        return self._objects[name]

    def patch(self, name: str, patch: PodPatch) -> JsonObject:
        """
        Set or remove labels and annotations.

        :raises ApiError: there is no such pod.
        """
        pod = copy.deepcopy(self.get(name))
        for part, values in patch.metadata.model_dump().items():
            together = pod["metadata"][part] | values
            pod["metadata"][part] = {
                key: value for key, value in together.items() if value is not None
            }
        self._change(name, pod)
        return self._objects[name]

    def delete(self, name: str, grace: int | None = None) -> JsonObject:
        """
        End a pod as the kubelet does, and delete it when it has ended.

        :param grace: seconds between SIGTERM and SIGKILL; by default those of the pod.
        :raises ApiError: there is no such pod.
        """
        pod = copy.deepcopy(self.get(name))
        if pod["status"]["phase"] in ENDED:
            self._change(name, None)
        elif "deletionTimestamp" not in pod["metadata"]:
            seconds = (
                pod["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
            )
            pod["metadata"] |= {
                "deletionTimestamp": _now(),
                "deletionGracePeriodSeconds": seconds,
            }
            self._change(name, pod)
            self._do(self._end(name, seconds))
        return pod

    async def watch(
        self, selector: Selector, version: int, timeout: float
    ) -> AsyncIterator[JsonObject]:
        """
        Yield the changes of the pods of a selector.

        :param version: the version after which changes are of interest; 0 for all pods
            that exist, and later changes.
        :param timeout: seconds after which it ends.
        """
        end = time.monotonic() + timeout
        if not version:
            existing, version = (
                [pod for pod in self._objects.values() if _matches(selector, pod)],
                self.version,
            )
            for pod in existing:
                yield {"type": "ADDED", "object": pod}
        while (remaining := end - time.monotonic()) > 0:
            changed, changes = (
                self._changed,
                [each for each in self._history if each.version > version],
            )
            if self.version - version > len(changes):
                yield {
                    "type": "ERROR",
                    "object": status(
                        410, "Expired", f"too old resource version: {version}"
                    ),
                }
                return
            version = self.version
            for change in changes:
                if event := change.event(selector):
                    yield event
            if version == self.version:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), remaining)

    async def _run(self, new: NewPod) -> None:
        name, container = new.metadata.name, new.spec.containers[0]
        session = ProcessSession(
            name,
            (*_NAMESPACES, *_NAMED, name, *container.command, *container.args),
            env={
                **self._environment,
                **{variable.name: variable.value for variable in container.env},
            },
            log=self._folder / f"{name}.log",
        )
        pod = self._pods[name] = Pod(new.metadata.annotations, session)
        self._set_status(name, "Running", "running", startedAt=_now())
        while pod.unproven or (code := session.status()) is None:
            await asyncio.sleep(_POLL_SECONDS)
        # The exit status of a process that a signal has ended, as a shell has it.
        code = 128 - code if code < 0 else code
        phase, reason = ("Failed", "Error") if code else ("Succeeded", "Completed")
        self._set_status(
            name, phase, "terminated", exitCode=code, reason=reason, finishedAt=_now()
        )

    async def _end(self, name: str, grace: float) -> None:
        while name not in self._pods or self._pods[name].unproven:
            await asyncio.sleep(_POLL_SECONDS)
        pod, end = self._pods[name], time.monotonic() + grace
        pod.send(signal.SIGTERM)
        while (
            name in self._objects
            and self._objects[name]["status"]["phase"] not in ENDED
        ):
            await asyncio.sleep(_POLL_SECONDS)
            if time.monotonic() > end:
                pod.kill()
        # The executor may have deleted it since its end.
        if name in self._objects:
            self._change(name, None)

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _set_status(self, name: str, phase: str, state: str, **details: Any) -> None:
        pod = copy.deepcopy(self._objects[name])
        container = {
            "name": pod["spec"]["containers"][0]["name"],
            "image": "",
            "imageID": "",
        }
        container |= {
            "ready": phase == "Running",
            "restartCount": 0,
            "state": {state: details},
        }
        pod["status"] |= {"phase": phase, "containerStatuses": [container]}
        self._change(name, pod)

    def _change(self, name: str, after: JsonObject | None) -> None:
        """
        Store what the API says of a pod from now on, and tell it to those who watch.
        """
        self.version += 1
        before = self._objects.pop(name, None)
        if after is not None:
            after = self._objects[name] = _in_version(after, self.version)
        self._history.append(_Change(self.version, before, after))
        self._changed.set()
        self._changed = asyncio.Event()


def status(code: int, reason: str, message: str) -> JsonObject:
    """Return an error as Kubernetes's API describes it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def _matches(selector: Selector, pod: JsonObject) -> bool:
    return selector.matches(pod["metadata"]["labels"])


def _in_version(pod: JsonObject, version: int) -> JsonObject:
    return {**pod, "metadata": {**pod["metadata"], "resourceVersion": str(version)}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
