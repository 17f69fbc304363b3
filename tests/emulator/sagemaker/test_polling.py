"""That looking at an execution never changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from polysync_airflow.emulator.engine.execution import Execution, StateError
from tests.emulator.builders import FOREVER, definition, execution, step, timeline

KINDS = ("Processing", "Training", "Lambda", "Callback", "Model", "Fail")


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a random definition and scenario."""
    steps: list[dict[str, Any]] = []
    scenario: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 6))):
        possible = [entry["Name"] for entry in steps if entry["Type"] != "Fail"]
        after = draw(st.lists(st.sampled_from(possible), unique=True)) if possible else []
        kind = draw(st.sampled_from(KINDS if index else KINDS[:-1]))
        steps.append(step(f"S{index}", kind, *after))
        scenario[f"S{index}"] = draw(
            st.sampled_from([{}, {"duration": 7}, {"duration": None}, {"fail": {"times": 1}}])
        )
    end = draw(st.sampled_from([None, "CompletedWithFailures"]))
    return definition(*steps), {"steps": scenario, "end_as": end}


MUTATIONS = st.sampled_from(["stop", "retry", "answer", "refuse", "limit"])
TIMES = st.integers(0, 2000).map(float)


def play(
    pipeline: tuple[str, dict[str, Any]], actions: Sequence[tuple[float, str]], looks: Sequence[float]
) -> list[Any]:
    """Run an execution through mutations, looking at it at other times too; return everything that happened."""
    engine = execution(*pipeline, limit=2)
    happened: list[Any] = []
    watching = [(time, "look") for time in looks]
    # At equal times there is a look on either side of the mutation.
    pending = sorted([*watching, *actions, *watching], key=lambda item: item[0])
    for now, action in pending:
        if action == "look":
            engine.advance(now)
            engine.shown_status(now)
            continue
        try:
            mutate(engine, now, action)
            refused = None
        except StateError as error:
            refused = str(error)
        happened.append((now, action, refused, engine.status, timeline(engine)))
    engine.advance(FOREVER)
    runs = [(name, vars(run)) for name, run in engine.runs.items()]
    return [happened, engine.status, engine.failure_reason, engine.last_modified, runs]


def mutate(engine: Execution, now: float, action: str) -> None:
    """Apply one of MUTATIONS."""
    if action == "stop":
        engine.stop(now)
    elif action == "retry":
        engine.retry(now, engine.scenario, 2)
    elif action == "limit":
        engine.limit(now, 3)
    else:
        engine.advance(now)
        tokens = [run.callback_token for run in engine.runs.values() if run.callback_token and run.running]
        engine.answer(now, (tokens or ["none"])[0] or "", {} if action == "answer" else None, "no")


@settings(max_examples=300, deadline=None)
@given(pipelines(), st.lists(st.tuples(TIMES, MUTATIONS), max_size=6), st.lists(TIMES, max_size=30))
def test_looking_changes_nothing(
    pipeline: tuple[str, dict[str, Any]], actions: list[tuple[float, str]], looks: list[float]
) -> None:
    """However often and whenever an execution is looked at, the same happens at the same times."""
    assert play(pipeline, actions, looks) == play(pipeline, actions, [])
