"""
Selective executions: what is reused, and the refusals that explanations read.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html
"""

from __future__ import annotations

from typing import Any, Final

from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, missing_execution
from polysync_airflow.verification.beliefs.stops import stops
from polysync_airflow.verification.calls import Refusal
from polysync_airflow.verification.models import INVALID, NOT_FOUND, Seen, belief_maker, named_by, told


def _source(account: Account) -> tuple[str, str]:
    """Start a pipeline of three steps, and return its name and the execution that has succeeded."""
    name = account.create("select", definitions.chain(length=3))
    arn = account.start(name)
    account.wait_for_end(arn)
    return name, arn


def _select(account: Account, pipeline: str, *steps: str, source: str | None = None) -> str | Refusal:
    config: dict[str, Any] = {"SelectedSteps": [{"StepName": step} for step in steps]}
    if source:
        config["SourcePipelineExecutionArn"] = source
    return account.try_to_start(pipeline, SelectiveExecutionConfig=config)


def _reused(account: Account) -> str | Refusal:
    """Select the last step, and wait for the end."""
    name, source = account.once(_source)
    answer = _select(account, name, "Step3", source=source)
    if not isinstance(answer, Refusal):
        account.wait_for_end(answer)
    return answer


def _result(account: Account) -> Seen:
    answer = account.once(_reused)
    if isinstance(answer, Refusal):
        return told(answer)
    _, source = account.once(_source)
    steps = account.steps(answer)
    reused = sorted(step.name for step in steps if step.reused_from == source)
    own = sorted(step.name for step in steps if not step.is_reused)
    return Seen(f"runs {', '.join(own) or 'none'}; reuses {', '.join(reused) or 'none'}")


def _shown(account: Account) -> Seen:
    answer = account.once(_reused)
    if isinstance(answer, Refusal):
        return told(answer)
    config = account.describe(answer).get("SelectiveExecutionConfig")
    _, source = account.once(_source)
    is_shown = isinstance(config, dict) and config.get("SourcePipelineExecutionArn") == source
    return Seen("shown" if is_shown else "not shown")


def _without_source(account: Account) -> Seen:
    name, _ = account.once(_source)
    return told(_select(account, name, "Step3"))


def _gap(account: Account) -> Seen:
    name, source = account.once(_source)
    return told(_select(account, name, "Step1", "Step3", source=source))


def _first_step(account: Account) -> Seen:
    name, _ = account.once(_source)
    return told(_select(account, name, "Step1"))


def _unknown_step(account: Account) -> Seen:
    name, source = account.once(_source)
    return told(_select(account, name, "Step4", source=source))


def _missing_source(account: Account) -> Seen:
    name, source = account.once(_source)
    missing = missing_execution(source)
    answer = _select(account, name, "Step3", source=missing)
    return named_by(answer, missing)


def _running_source(account: Account) -> Seen:
    name = account.create("select-running", definitions.chain())
    arn = account.start(name)
    answer = _select(account, name, "Step3", source=arn)
    # Nobody waits for its end.
    account.try_to_stop(arn)
    return told(answer)


def _stopped_source(account: Account) -> Seen:
    return told(account.once(stops).as_source)


_SELECTION: Final = "polysync_airflow/execution/pipelines.py"
_OPERATOR: Final = "polysync_airflow/operators/parameter_check.py"
_CHECK: Final = "polysync_airflow/operators/parameter_check.py"
_PAGE: Final = "docs/how-to/selected-steps.md"
_EMULATOR: Final = "emulator/sagemaker_emulator/sagemaker/selective_execution.py"


_belief: Final = belief_maker("selection")

BELIEFS: Final = (
    _belief(
        "reused",
        "A selected step runs, and the steps that it depends on are listed with the source execution.",
        "runs Step3; reuses Step1, Step2",
        _result,
        "polysync_airflow/execution/steps/descriptions.py",
        _PAGE,
    ),
    _belief(
        "shown",
        "DescribePipelineExecution shows the source.",
        "shown",
        _shown,
        "emulator/sagemaker_emulator/sagemaker/executions.py",
    ),
    _belief(
        "first-step",
        "A step that depends on no other can be selected without a source.",
        "accepted",
        _first_step,
        _SELECTION,
        _PAGE,
    ),
    _belief(
        "without-source",
        "Without a source, a step that depends on others is refused.",
        INVALID,
        _without_source,
        _SELECTION,
        _EMULATOR,
    ),
    _belief(
        "gap",
        "A selection without the steps between two selected ones is refused.",
        INVALID,
        _gap,
        _SELECTION,
        _PAGE,
    ),
    _belief(
        "unknown-step",
        "A step that the definition does not have is refused.",
        INVALID,
        _unknown_step,
        _SELECTION,
    ),
    _belief(
        "missing-source",
        "A source that does not exist is refused, and the text names it.",
        f"{NOT_FOUND}, which names it",
        _missing_source,
        _CHECK,
    ),
    _belief(
        "running-source",
        "An execution that runs cannot be the source.",
        INVALID,
        _running_source,
        _SELECTION,
        _OPERATOR,
        _PAGE,
    ),
    _belief(
        "stopped-source",
        "A stopped execution cannot be the source.",
        INVALID,
        _stopped_source,
        _SELECTION,
        _OPERATOR,
        _PAGE,
    ),
)
