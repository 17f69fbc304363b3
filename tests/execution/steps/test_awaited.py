"""The step for which a task waits: whether its name is one, and whether the pipeline has it."""

from __future__ import annotations

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.pipelines.definition import DeclaredStep
from polysync_airflow.execution.steps.awaited import check_step_declared, check_step_name

DECLARED = [DeclaredStep("Wait", "Callback"), DeclaredStep("Train", "Training")]
LOOP = [*DECLARED, DeclaredStep("Loop", "ForEach")]


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a\x7f", 7, None])
def test_not_a_name(name: object) -> None:
    """What is no name of a step is refused before AWS is called."""
    with pytest.raises(ParametersError, match=r"step_name = .* is not the name of a step: give"):
        check_step_name(name)


@pytest.mark.parametrize(
    ("name", "declared", "kind"),
    [
        ("Wait", DECLARED, "Callback"),
        ("Train", DECLARED, None),
        ("Wait-1[1]", DECLARED, "Callback"),
        ("Train[0]", DECLARED, None),
        ("Train-2", DECLARED, None),
        ("Other", [], "Callback"),
        ("Other", LOOP, "Callback"),
        ("Other[3]", LOOP, None),
    ],
)
def test_declared(name: str, declared: list[DeclaredStep], kind: str | None) -> None:
    """Names of iterations are accepted, and any name if the definition does not say all."""
    check_step_name(name)
    check_step_declared(name, declared, kind)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("Wai", "Callback", "is not a step of type Callback of the pipeline: do you mean 'Wait'?"),
        ("Trai", "Callback", "is not a step of type Callback of the pipeline: it has Wait."),
        ("Trai", None, "is not a step of the pipeline: do you mean 'Train'?"),
        ("Z", None, "is not a step of the pipeline: it has Wait, Train."),
        ("Train", "Callback", "is a step of type Training: give the name of a step of type Callback."),
        ("Train-1", "Callback", "is a step of type Training: give the name of a step of type Callback."),
    ],
)
def test_not_declared(name: str, kind: str | None, text: str) -> None:
    """A step that the pipeline does not have would be waited for in vain."""
    with pytest.raises(ParametersError, match="step_name = ") as caught:
        check_step_declared(name, DECLARED, kind)

    assert text in str(caught.value)
