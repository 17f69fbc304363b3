"""
Selective executions: what is reused, and the refusals that explanations read.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, missing_execution
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observations,
    Refusal,
    one_of,
    worded,
)


def _select(
    account: Account, pipeline: str, *steps: str, source: str | None = None
) -> str:
    config: dict[str, Any] = {"SelectedSteps": [{"StepName": step} for step in steps]}
    if source:
        config["SourcePipelineExecutionArn"] = source
    return account.start(pipeline, SelectiveExecutionConfig=config)


def selections(account: Account) -> Observations:
    """
    Select steps of a pipeline of three steps, with an execution that has succeeded as
    the source.
    """
    name = account.create("select", definitions.chain(length=3))
    source = account.end(account.start(name), "Succeeded").arn
    missing, naming = (
        missing_execution(source),
        ("which names it", "which does not name it"),
    )
    told = partial(account.told, _select, account, name)
    selected = account.attempt(_select, account, name, "Step3", source=source)
    if isinstance(selected, Refusal):
        yield {"reused": selected}
        raise NotCheckedError(f"a selection with a source is {selected}")
    end = account.end(selected, "Succeeded")
    config = end.answer.get("SelectiveExecutionConfig")
    yield {"shown": one_of(_source(config) == source, "shown", "not shown")}
    if not config:
        raise NotCheckedError("the execution shows no selection")
    yield {"first-step": told("Step1")}
    yield {"without-source": told("Step3")}
    yield {"gap": told("Step1", "Step3", source=source)}
    yield {"unknown-step": told("Step4", source=source)}
    yield {"missing-source": worded(told("Step3", source=missing), missing, *naming)}
    results = end.each("SelectiveExecutionResult")
    reused = sorted(
        name for name, result in results.items() if _source(result) == source
    )
    own = sorted(name for name, result in results.items() if not result)
    yield {
        "reused": (
            f"runs {', '.join(own) or 'none'}; reuses {', '.join(reused) or 'none'}"
        )
    }


def _source(config: dict[str, Any] | None) -> object:
    return (config or {}).get("SourcePipelineExecutionArn")


def other_sources(account: Account) -> Observations:
    """
    Select a step, with an execution that runs, and is stopped then, as the source.
    """
    # The step before the selected one has succeeded.
    name, arn = account.begin("select-running")
    select = partial(account.told, _select, account, name, "Step2", source=arn)
    yield {"running-source": account.given(arn, select(), "Executing")}
    account.require("the stop", account.told(account.stop, arn))
    account.end(arn, "Stopped")
    yield {"stopped-source": select()}
