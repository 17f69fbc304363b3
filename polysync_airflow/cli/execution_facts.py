"""
What the commands of ``polysync executions`` have in common: the execution that they
name, and what AWS says of it.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any, Final

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from polysync_airflow import exceptions, states
from polysync_airflow.auth.base_hook import REPORT_CONFIG
from polysync_airflow.aws.responses import PAGE_SIZE
from polysync_airflow.cli import output
from polysync_airflow.execution import clock, models, parameters, texts
from polysync_airflow.execution.lifecycle.instructions import TaskKey, owner_text
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import result_or_error
from polysync_airflow.jobs import importer

# While AWS throttles a call, it is repeated for a minute.
PAUSE_SECONDS: Final = 5.0
ATTEMPTS: Final = 13
NOT_KNOWN: Final = "not known"
# ``<pipeline>/<id>``
_SHORT_NAME: Final = re.compile(rf"{models.PIPELINE_NAME_PATTERN}/[a-zA-Z0-9]+")
# The characters of a line. Airflow's ids have at most 250 characters each.
MAX_TEXT: Final = 2000


class _Hook(PolysyncSageMakerHook):
    """The hook for one execution, which calls again what AWS throttles."""

    def call(self, operation: str, **request: Any) -> Any:
        """Call a SageMaker operation."""
        text = f"AWS throttles {operation}: asking again in {PAUSE_SECONDS:.0f} s"
        retrying = Retrying(
            retry=retry_if_exception(exceptions.is_throttling),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(PAUSE_SECONDS),
            before_sleep=lambda _: output.write_message(text),
            sleep=clock.sleep,
            reraise=True,
        )
        return retrying(super().call, operation, **request)


def named_execution(
    args: Namespace,
) -> tuple[PolysyncSageMakerHook, models.ExecutionDescription]:
    """Return the execution that the arguments name, with the hook for its region."""
    name = args.execution
    is_short = _SHORT_NAME.fullmatch(name)
    region = args.region
    if not is_short:
        if not parameters.is_valid(parameters.EXECUTION_ARN, name):
            raise exceptions.ParametersError(
                f"{texts.shorten(name)} names no execution: give PIPELINE/ID, as"
                " `polysync executions list` writes it, or the ARN."
            )
        region = models.region_from_arn(name)
        if args.region not in (None, region):
            args.parser.error(
                f"--region {args.region}: the execution is in {region}, so leave it out"
            )
    hook = _Hook(args.conn_id, region, config=REPORT_CONFIG)
    with output.airflow_in_use(args.conn_id):
        arn = name
        if is_short:
            arn = _arn_of(hook, *name.split("/"))
        return hook, hook.describe_pipeline_execution(arn)


def _arn_of(hook: PolysyncSageMakerHook, pipeline: str, execution_id: str) -> str:
    executions = hook.find_pipeline_executions(
        pipeline, created_after=None, newest_first=True
    )
    try:
        newest = [each.execution_arn for each in islice(executions, PAGE_SIZE)]
    except exceptions.SageMakerApiError as error:
        if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
            raise importer.no_pipeline_error(hook, "execution", pipeline) from None
        raise
    ids = [arn.rpartition("/")[2] for arn in newest]
    if execution_id not in ids and len(ids) < PAGE_SIZE:
        listed = ", ".join(ids[: importer.MAX_NEAR]) or "none"
        raise exceptions.ParametersError(
            f"{pipeline}/{execution_id}: the pipeline has no such execution in region"
            f" {hook.client_region}. The newest: {listed}."
        )
    # AWS has the name of the pipeline in lower case there.
    return f"{newest[0].rpartition('/')[0]}/{execution_id}"


def facts_of(execution: models.ExecutionDescription) -> dict[str, Any]:
    """Return what all commands write of an execution."""
    facts = {
        "started_at": output.in_seconds(execution.created_at),
        "state": states.state_of(execution.status).value,
        "status": execution.status,
        "execution_arn": execution.execution_arn,
        "display_name": execution.display_name,
        "airflow_task": owner_text(execution.display_name, execution.description),
    }
    described_task = TaskKey.in_description(execution.description)
    if described_task:
        task, page = described_task
        facts |= {**asdict(task), "airflow_page": page}
        name = f"{task_text(facts)}/{task.run_id}"
        facts["airflow_task"] = texts.clean_line(name, MAX_TEXT)
    return facts


def short_name(execution: models.ExecutionDescription) -> str:
    """Return the name of an execution, as the list writes it."""
    pipeline, _, execution_id = execution.execution_arn.split("/", 1)[1].rpartition(
        "/execution/"
    )
    return f"{pipeline}/{execution_id}"


def task_text(facts: Mapping[str, Any]) -> str:
    """Return the name of a task, without its run."""
    text = f"{facts['dag_id']}/{facts['task_id']}"
    if facts["map_index"] < 0:
        return text
    return f"{text}[{facts['map_index']}]"


def state_text(status: str) -> str:
    """Return the state for people: the tab and the page say ``Stopping``, too."""
    if status == states.STATUS_STOPPING:
        return status
    return states.state_of(status)


class Answers:
    """What AWS answers about an execution."""

    def __init__(self) -> None:
        # Why something is not known, by its name in the result.
        self.refusals: dict[str, str] = {}

    def of(self, name: str, call: Callable[[str], Any], arn: str) -> Any:
        """Return what a call returns; None, with a warning, if it fails."""
        answer = result_or_error(call, arn)
        if not isinstance(answer, exceptions.PolysyncError):
            return answer
        output.write_message(f"warning: {texts.clean_line(str(answer), MAX_TEXT)}")
        self.refusals[name] = refusal_text(answer)
        return None

    @property
    def lines(self) -> list[str]:
        """A line about each thing that is not known."""
        return [
            f"{name.replace('_', ' ').capitalize()}: {NOT_KNOWN}, {refusal}"
            for name, refusal in self.refusals.items()
        ]


def refusal_text(error: exceptions.PolysyncError) -> str:
    """Return why something is not known, in a few words."""
    if isinstance(error, exceptions.SageMakerApiError):
        code = error.error_code.removesuffix("Exception")
        return f"{code}: sagemaker:{error.operation}"
    return texts.clean_line(str(error))
