"""
The Kubernetes API of the chaos suite, with Kubernetes's client. These tests start no
Airflow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.deployment.kubernetes.api import LoopbackCluster, client_settings
from tests.chaos.deployment.kubernetes.pods import Pod
from tests.chaos.deployment.kubernetes.requests import MAX_BODY_BYTES, NAMESPACE
from tests.system.process.sessions import session_members, wait_until

pytestmark = pytest.mark.nightly
NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may create namespaces of processes"
)
SLEEP = ["sh", "-c", "exec sleep 60"]
OWNER = "airflow-worker"


# The client's import takes seconds, which are not to be those of each collection of
# tests.
def make_client(settings: dict[str, Any]) -> Any:
    """Return Kubernetes's client."""
    from kubernetes import client, config

    return client.CoreV1Api(config.new_client_from_config_dict(settings))


def refusal() -> Any:
    """Expect an error of Kubernetes's client."""
    from kubernetes.client.rest import ApiException

    return pytest.raises(ApiException)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    """A cluster without pods."""
    with LoopbackCluster(tmp_path / "cluster", os.environ) as running:
        yield running


@pytest.fixture
def api(cluster: LoopbackCluster, tmp_path: Path) -> Any:
    """Kubernetes's client, with the settings that Airflow gets."""
    return make_client(json.loads(client_settings(tmp_path / "cluster").read_text()))


def pod(name: str = "task-1", *, owner: str = "1", **container: Any) -> dict[str, Any]:
    """Return a request to create a pod."""
    metadata = {
        "name": name,
        "labels": {OWNER: owner},
        "annotations": {"run_id": "run"},
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [{"name": "base", "args": SLEEP, **container}],
    }
    return {"metadata": metadata, "spec": spec}


def started(cluster: LoopbackCluster, count: int = 1) -> Pod:
    """Wait until pods run, and return the first one."""
    assert wait_until(
        lambda: [each.runs for each in cluster.pods.created()] == [True] * count,
        timeout=20,
    )
    return cluster.pods.created(run_id="run")[0]


def changes(api: Any, selector: str, count: int) -> list[tuple[str, str, bool]]:
    """
    Return the type, the phase, and whether the pod is being deleted, of the first
    changes.
    """
    from kubernetes import watch

    query = {"label_selector": selector, "resource_version": "1", "timeout_seconds": 20}
    events = watch.Watch().stream(api.list_namespaced_pod, NAMESPACE, **query)
    return [
        (
            each["type"],
            each["object"].status.phase,
            bool(each["object"].metadata.deletion_timestamp),
        )
        for each in islice(events, count)
    ]


@NEEDS_ROOT
def test_eviction_kills_a_pod_at_the_end_of_its_grace_period(
    cluster: LoopbackCluster, api: Any
) -> None:
    """
    The first process of a pod ignores SIGTERM if it has no handler, and who watches
    sees each state of the end.
    """
    request = pod()
    request["spec"]["terminationGracePeriodSeconds"] = 1
    api.create_namespaced_pod(NAMESPACE, request)
    created = started(cluster)

    cluster.evict(created)

    assert wait_until(lambda: not cluster.pods.labels(created), timeout=20)
    assert not created.runs
    assert created.session.status() == -9
    assert changes(api, f"{OWNER}=1,done!=True", 5) == [
        ("ADDED", "Pending", False),
        ("MODIFIED", "Running", False),
        ("MODIFIED", "Running", True),
        ("MODIFIED", "Failed", True),
        ("DELETED", "Failed", True),
    ]


@NEEDS_ROOT
def test_pod_that_has_ended_is_deleted_at_once(
    cluster: LoopbackCluster, api: Any
) -> None:
    """
    The exit status decides the phase, and the list of succeeded pods has the pod until
    then.
    """
    api.create_namespaced_pod(NAMESPACE, pod(args=["true"]))
    succeeded = {
        "field_selector": "status.phase=Succeeded",
        "label_selector": f"{OWNER} notin (2,3)",
    }
    assert wait_until(
        lambda: bool(api.list_namespaced_pod(NAMESPACE, **succeeded).items), timeout=20
    )

    api.delete_namespaced_pod("task-1", NAMESPACE)

    assert api.list_namespaced_pod(NAMESPACE).items == []
    assert changes(api, OWNER, 4)[-1] == ("DELETED", "Succeeded", False)


@NEEDS_ROOT
def test_adoption_moves_a_pod_from_one_watch_to_another(
    cluster: LoopbackCluster, api: Any
) -> None:
    """
    For the watch of the old scheduler the pod is deleted, without a time of its
    deletion; the new one's gets it.
    """
    api.create_namespaced_pod(NAMESPACE, pod())
    created = started(cluster)

    api.patch_namespaced_pod(
        "task-1", NAMESPACE, {"metadata": {"labels": {OWNER: "2"}}}
    )

    assert changes(api, f"{OWNER}=1", 3)[-1] == ("DELETED", "Running", False)
    assert changes(api, f"{OWNER}=2", 1) == [("ADDED", "Running", False)]
    assert cluster.pods.labels(created) == {OWNER: "2"}


@NEEDS_ROOT
def test_end_of_the_cluster_kills_all_pods(tmp_path: Path) -> None:
    """No process remains, whatever the pods do."""
    with LoopbackCluster(tmp_path / "cluster", os.environ) as cluster:
        api = make_client(json.loads(client_settings(tmp_path / "cluster").read_text()))
        for name in ("task-1", "task-2"):
            api.create_namespaced_pod(NAMESPACE, pod(name, args=["setsid", *SLEEP]))
        started(cluster, 2)
        pods = cluster.pods.created()

    assert not any(each.runs for each in pods)
    assert session_members(each.session.pid for each in pods) == []


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"name": "Task_1"}, 422, "metadata.name: String should match pattern"),
        (
            {"labels": {OWNER: "x" * 64}},
            422,
            f"metadata.labels.{OWNER}: String should have at most 63",
        ),
        (
            {"labels": {str(number): "" for number in range(51)}},
            422,
            "metadata.labels: Dictionary should",
        ),
        (
            {"annotations": {"run_id": "x" * 4097}},
            422,
            "metadata.annotations.run_id: String should have",
        ),
        (
            {"finalizers": []},
            422,
            "metadata.finalizers: Extra inputs are not permitted",
        ),
        (
            {"namespace": "kube-system"},
            422,
            "metadata.namespace: Input should be 'default'",
        ),
        (
            {"annotations": {"run_id": "x" * MAX_BODY_BYTES}},
            413,
            f"more than {MAX_BODY_BYTES} bytes",
        ),
    ],
)
def test_unusual_pod_is_refused(
    cluster: LoopbackCluster,
    api: Any,
    change: dict[str, Any],
    status: int,
    message: str,
) -> None:
    """The error names the field, and nothing is started."""
    request = pod()
    request["metadata"] |= change

    with refusal() as error:
        api.create_namespaced_pod(NAMESPACE, request)

    assert error.value.status == status
    assert message in str(error.value.body)
    assert cluster.pods.created() == []


def test_request_without_the_token_is_refused(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    """Whoever creates a pod runs a program as root."""
    settings = json.loads(client_settings(tmp_path / "cluster").read_text())
    settings["users"][0]["user"]["token"] += "0"
    api = make_client(settings)

    with refusal() as error:
        api.create_namespaced_pod(NAMESPACE, pod())

    assert error.value.status == 401
    assert cluster.pods.created() == []


@pytest.mark.parametrize(
    "query",
    [
        {"label_selector": "a b"},
        {"field_selector": "spec.nodeName=x"},
        {"timeout_seconds": 3601},
    ],
)
def test_unknown_selection_is_refused(api: Any, query: dict[str, Any]) -> None:
    """A selection that is not understood must not select all pods."""
    with refusal() as error:
        api.list_namespaced_pod(NAMESPACE, **query)

    assert error.value.status in (400, 422)
