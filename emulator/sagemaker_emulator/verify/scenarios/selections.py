"""
Selective executions: what is reused, and the refusals that explanations read.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, End, missing_execution
from sagemaker_emulator.verify.models import Observations, Observed, one_of, refusal_that
from sagemaker_emulator.verify.scenarios.stops import stops


def _select(account: Account, pipeline: str, *steps: str, source: str | None = None) -> str:
    config: dict[str, Any] = {"SelectedSteps": [{"StepName": step} for step in steps]}
    if source:
        config["SourcePipelineExecutionArn"] = source
    return account.start(pipeline, SelectiveExecutionConfig=config)


def selections(account: Account) -> Observations:
    """Select steps of a pipeline of three steps, with an execution that has succeeded as the source."""
    name = account.create("select", definitions.chain(length=3))
    source = account.end(account.start(name)).arn
    missing, naming = missing_execution(source), ("which names it", "which does not name it")
    told = partial(account.told, _select, account, name)
    reused = account.attempt(
        lambda: _reused(account.end(_select(account, name, "Step3", source=source)), source)
    )
    return {
        **(reused if isinstance(reused, dict) else dict.fromkeys(("reused", "shown"), reused)),
        "without-source": told("Step3"),
        "gap": told("Step1", "Step3", source=source),
        "first-step": told("Step1"),
        "unknown-step": told("Step4", source=source),
        "missing-source": refusal_that(told("Step3", source=missing), missing, *naming),
    }


def _reused(end: End, source: str) -> dict[str, Observed]:
    def source_in(config: Any) -> bool:
        return isinstance(config, dict) and config.get("SourcePipelineExecutionArn") == source

    results = end.each("SelectiveExecutionResult")
    reused = sorted(name for name, result in results.items() if source_in(result))
    own = sorted(name for name, result in results.items() if not result)
    is_shown = source_in(end.answer.get("SelectiveExecutionConfig"))
    return {
        "reused": f"runs {', '.join(own) or 'none'}; reuses {', '.join(reused) or 'none'}",
        "shown": one_of(is_shown, "shown", "not shown"),
    }


def other_sources(account: Account) -> Observations:
    """Select a step, with an execution that runs, and one that was stopped, as the source."""
    name = account.create("select-running", definitions.chain())
    arn = account.start(name)
    selected = account.told(_select, account, name, "Step3", source=arn)
    # Nobody waits for its end.
    account.told(account.stop, arn)
    return {"running-source": selected, "stopped-source": account.once(stops)["as-source"]}
