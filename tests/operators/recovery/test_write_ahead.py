"""Write-ahead: what costs money is on record before AWS hears of it, judged at the moment it leaves."""

from __future__ import annotations

from typing import Any

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined] # missing in its stubs

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.operators.record_store import STORE_KEY
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import (
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
    RETRY,
    START,
    Ledger,
    Task,
    Wire,
    die,
    tokens,
)


def photograph(task: Task, album: list[Any]) -> Any:
    """Return an action that keeps what is on the wire, beside what is in the store at that moment."""
    return lambda body: album.append((body, task.record))


def test_a_start_is_on_record_before_it_leaves(make_task: MakeTask, wire: Wire) -> None:
    """When StartPipelineExecution leaves, its very token and all of its content are stored, and no ARN yet."""
    task, album = make_task(pipeline_parameters={"Shards": 4}, max_parallel_steps=2), []  # type: ignore[var-annotated]
    wire.before(START, photograph(task, album))

    task.next_try()

    ((sent, stored),) = album
    assert StartRequest.model_validate(stored["request"]).to_aws() == sent
    assert stored["request"]["client_request_token"] == sent["ClientRequestToken"]
    assert stored["epoch"] == task.max_tries
    assert stored["region_name"] == "us-east-1"
    assert stored["execution_arn"] is None


def test_the_arn_is_on_record_before_anything_is_published(make_task: MakeTask, ledger: Ledger) -> None:
    """Once AWS has answered, the ARN is stored first: XComs die with the try, the record does not."""
    task = make_task()
    task.begin()
    pushed: list[Any] = []
    writes: list[Any] = []
    store_set = task.store.set

    def watched(key: str, value: Any, *, retention: Any = None) -> None:
        writes.append((value["execution_arn"], list(pushed), retention))
        store_set(key, value, retention=retention)

    task.store.set = watched  # type: ignore[method-assign]

    task.go()

    assert writes == [(None, [], NEVER_EXPIRE), (ledger.arns[0], [], NEVER_EXPIRE)]


def test_the_record_does_not_expire(make_task: MakeTask) -> None:
    """Airflow forgets task state after 30 days by default; an execution may be waited for longer."""
    task = make_task()

    task.next_try()

    assert task.store.retentions == {STORE_KEY: NEVER_EXPIRE}


def test_a_resume_is_on_record_before_it_leaves(
    make_task: MakeTask, wire: Wire, emulator: EmulatorServer
) -> None:
    """When RetryPipelineExecution leaves, its very token is stored, and that no answer has come yet."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task, album = make_task(retry_mode="resume"), []  # type: ignore[var-annotated]
    wire.before(RETRY, photograph(task, album))

    task.next_try()
    task.next_try()

    ((sent, stored),) = album
    assert stored["resume_token"] == sent["ClientRequestToken"]
    assert (stored["resumes"], stored["resumed_at"]) == (1, None)
    assert task.record["resumed_at"] is not None


def test_each_resume_has_a_token_of_its_own(
    make_task: MakeTask, wire: Wire, emulator: EmulatorServer
) -> None:
    """A second resume with the first one's token would be no resume at all."""
    emulator.control.put_scenario(MERGE_FAILS_TWICE)
    task, album = make_task(retry_mode="resume"), []  # type: ignore[var-annotated]
    for _ in range(2):
        wire.before(RETRY, photograph(task, album))

    runs = [task.next_try() for _ in range(3)]

    assert [bool(run.error) for run in runs] == [True, True, False]
    assert len(set(tokens(emulator, RETRY))) == 2
    assert [(stored["resumes"], stored["resumed_at"]) for _, stored in album] == [(1, None), (2, None)]
    assert all(sent["ClientRequestToken"] == stored["resume_token"] for sent, stored in album)


def test_nothing_is_sent_that_could_not_be_stored(make_task: MakeTask, emulator: EmulatorServer) -> None:
    """If Airflow cannot be reached, no execution is started that nobody would know of."""
    task = make_task()
    task.begin()
    task.store.set = die  # type: ignore[method-assign,assignment]

    task.go()

    assert tokens(emulator, START) == []


def test_no_resume_is_sent_that_could_not_be_stored(make_task: MakeTask, emulator: EmulatorServer) -> None:
    """The same for a resume."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    task.store.set = die  # type: ignore[method-assign,assignment]

    task.next_try()

    assert tokens(emulator, RETRY) == []
