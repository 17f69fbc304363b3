"""A property-based test that polling does not change an execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.execution import Execution, StateError
from tests.builders import FOREVER, execution, timeline

KINDS = ("Processing", "Training", "Lambda", "Callback", "Model", "Fail")


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a random definition and a random scenario."""
    steps: list[dict[str, Any]] = []
    scenario: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 6))):
        possible = [entry["Name"] for entry in steps if entry["Type"] != "Fail"]
        after = (
            draw(st.lists(st.sampled_from(possible), unique=True)) if possible else []
        )
        kind = draw(st.sampled_from(KINDS if index else KINDS[:-1]))
        steps.append(step(f"S{index}", kind, *after))
        scenario[f"S{index}"] = draw(
            st.sampled_from(
                [{}, {"duration": 7}, {"duration": None}, {"fail": {"times": 1}}]
            )
        )
    end = draw(st.sampled_from([None, "CompletedWithFailures"]))
    return definition(*steps), {"steps": scenario, "end_as": end}


MUTATIONS = st.sampled_from(["stop", "retry", "complete", "fail", "limit"])
TIMES = st.integers(0, 2000).map(float)


def run_execution(
    pipeline: tuple[str, dict[str, Any]],
    actions: Sequence[tuple[float, str]],
    polls: Sequence[float],
) -> list[Any]:
    """Apply actions to an execution, poll it at other times, and return its history."""
    engine = execution(*pipeline, limit=2)
    history: list[Any] = []
    poll_actions = [(time, "poll") for time in polls]
    # At equal times there is a poll before and after the mutation.
    pending = sorted([*poll_actions, *actions, *poll_actions], key=lambda item: item[0])
    for now, action in pending:
        if action == "poll":
            engine.advance(now)
            engine.shown_status(now)
            continue
        try:
            mutate(engine, now, action)
            error_message = None
        except StateError as error:
            error_message = str(error)
        history.append((now, action, error_message, engine.status, timeline(engine)))
    engine.advance(FOREVER)
    runs = [(name, vars(run)) for name, run in engine.runs.items()]
    return [history, engine.status, engine.failure_reason, engine.last_modified, runs]


def mutate(engine: Execution, now: float, action: str) -> None:
    """Apply one of MUTATIONS."""
    if action == "stop":
        engine.stop(now)
    elif action == "retry":
        engine.retry(now, engine.scenario, 2)
    elif action == "limit":
        engine.set_max_parallel(now, 3)
    else:
        engine.advance(now)
        tokens = [
            run.callback_token
            for run in engine.runs.values()
            if run.callback_token and run.running
        ]
        token = (tokens or ["none"])[0] or ""
        if action == "complete":
            engine.succeed_callback(now, token, {})
        else:
            engine.fail_callback(now, token, "no")


@settings(max_examples=300, deadline=None)
@given(
    pipelines(),
    st.lists(st.tuples(TIMES, MUTATIONS), max_size=6),
    st.lists(TIMES, max_size=30),
)
def test_polling_does_not_change_an_execution(
    pipeline: tuple[str, dict[str, Any]],
    actions: list[tuple[float, str]],
    polls: list[float],
) -> None:
    """
    The same events happen at the same times, no matter when and how often the execution
    is polled.
    """
    assert run_execution(pipeline, actions, polls) == run_execution(
        pipeline, actions, []
    )
