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
    source = account.wait_for_end(account.start(name), "Succeeded").arn
    selected = account.attempt(_select, account, name, "Step3", source=source)
    if isinstance(selected, Refusal):
        yield {"reused": selected}
        raise NotCheckedError(f"a selection with a source is {selected}")
    end = account.wait_for_end(selected, "Succeeded")
    config = end.answer.get("SelectiveExecutionConfig")
    yield {"shown": one_of(_source(config) == source, "shown", "not shown")}
    if not config:
        raise NotCheckedError("the execution shows no selection")

    select = partial(account.answer_to, _select, account, name)
    yield {"first-step": select("Step1")}
    yield {"without-source": select("Step3")}
    yield {"gap": select("Step1", "Step3", source=source)}
    yield {"unknown-step": select("Step4", source=source)}
    missing = missing_execution(source)
    answer = select("Step3", source=missing)
    yield {
        "missing-source": worded(
            answer, missing, "which names it", "which does not name it"
        )
    }
    results = end.by_step("SelectiveExecutionResult")
    reused = sorted(
        name for name, result in results.items() if _source(result) == source
    )
    own = sorted(name for name, result in results.items() if not _source(result))
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
    name, arn = account.start_chain("select-running")
    select = partial(account.answer_to, _select, account, name, "Step2", source=arn)
    yield {"running-source": account.if_still(arn, select(), "Executing")}
    account.require_accepted("the stop", account.answer_to(account.stop, arn))
    account.wait_for_end(arn, "Stopped")
    yield {"stopped-source": select()}
