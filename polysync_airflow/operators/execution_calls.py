"""
The calls of a try on a worker: each command of the core, as requests to AWS.

``execution/lifecycle/machine.py`` decides what is called, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from polysync_airflow import deployment, exceptions
from polysync_airflow.aws.responses import PAGE_SIZE
from polysync_airflow.aws.retry import PUT_TIMEOUT_SECONDS, Result, call_with_retry
from polysync_airflow.execution import clock, job_pipelines, models, waiter
from polysync_airflow.execution.definitions import PipelineDraft
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.decisions import unused_arguments
from polysync_airflow.execution.lifecycle.instruction_kinds import (
    Beginning,
    Begun,
    Ended,
    Identified,
    Instruction,
)
from polysync_airflow.execution.lifecycle.lookup import MAX_LISTED
from polysync_airflow.execution.parameters import (
    check_pipeline_names,
    make_start_request,
    with_role,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook, spending
from polysync_airflow.hooks.executions import request_stop, send_resume, send_start
from polysync_airflow.hooks.prices import read_limit
from polysync_airflow.operators import parameter_check

HookForRegion = Callable[[str | None], PolysyncSageMakerHook]


@dataclass(kw_only=True)
class ExecutionCalls:
    """
    The calls of one try.

    :param hook_for_region: returns the hook for a region; None is the task's own
        region.
    :param arguments: the rendered arguments of the task for a new execution.
    :param max_cost: the rendered argument of the task; ``NOT_GIVEN`` without one.
    :param own_pipeline: the pipeline that the task makes before a new execution; None
        if it makes none.
    :param deadline: when to stop retrying calls that fail with transient errors, as
        Unix time.
    """

    hook_for_region: HookForRegion
    log: Any
    arguments: Mapping[str, Any]
    validate_parameters: bool
    max_cost: object
    own_pipeline: job_pipelines.JobPipeline | None
    deadline: float
    # Since when the pipeline that the task makes should be found, as Unix time.
    _made_at: float = field(default_factory=clock.time, init=False)

    def perform(self, instruction: Instruction) -> instructions.Event:
        """
        Do what an instruction says, and return what happened.

        :param instruction: one that neither fails nor ends the start.
        """
        try:
            match instruction:
                case Beginning(command=instructions.Command.PREPARE):
                    return self._prepare(instruction)
                case Begun(
                    command=instructions.Command.START
                    | instructions.Command.RESEND_START
                ):
                    return self._start(instruction)
                case Beginning() | Begun():
                    return self._look_up(instruction)
                case Identified(
                    command=instructions.Command.RESUME
                    | instructions.Command.RESEND_RESUME
                ):
                    return self._resume(instruction)
                case Identified(command=instructions.Command.STOP):
                    return self._stop(instruction)
                case Identified():
                    return self._describe(instruction.arn)
                case Ended():
                    return self._add_up(instruction)
                case _:
                    raise TypeError(f"{instruction.command} has no call")
        except exceptions.PolysyncError as error:
            return instructions.Refused(error, clock.now())

    # ---- the execution of the earlier tries

    def _look_up(self, instruction: Beginning | Begun) -> instructions.ExecutionsListed:
        record = instruction.record
        if record:
            hook = self.hook_for_region(record.region_name)
            pipeline_name = record.request.pipeline_name
        else:
            hook = self.hook_for_region(None)
            pipeline_name = self._pipeline_name(instruction.task_try)
        claimed = self._describe_claimed(instruction.task_try)
        listed = self._list_newest(hook, pipeline_name)
        return instructions.ExecutionsListed(pipeline_name, listed, claimed)

    def _describe_claimed(
        self, task_try: instructions.TaskTry
    ) -> models.ExecutionDescription | None:
        """Describe the execution that an unproven record names, if it exists."""
        unproven_record = task_try.unproven_record
        if unproven_record is None or unproven_record.execution_arn is None:
            return None
        try:
            return self._describe(unproven_record.execution_arn).description
        except exceptions.SageMakerApiError as error:
            if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
                return None
            raise

    def _list_newest(
        self, hook: PolysyncSageMakerHook, pipeline_name: str
    ) -> list[models.ExecutionDescription]:
        try:
            check_pipeline_names([pipeline_name])
            newest: list[models.ExecutionDescription] = []
            token = None
            for _ in range(MAX_LISTED // PAGE_SIZE):
                page, token = self._retry(
                    partial(
                        hook.list_pipeline_executions, pipeline_name, page_token=token
                    )
                )
                newest += page
                if not token:
                    break
        except exceptions.PolysyncError as error:
            if error.transient:
                raise
            if self.own_pipeline and exceptions.has_code(
                error, exceptions.RESOURCE_NOT_FOUND
            ):
                # The earlier try has not come to make it.
                return []
            # If the pipeline's name is not valid, the error of the request says so.
            self.log.warning(
                "The executions of earlier tries cannot be looked up: %s", error
            )
            return []
        return newest

    def _describe(self, arn: str) -> instructions.Described:
        hook = self._hook_of(arn)
        described_at = clock.now()
        describe = partial(hook.describe_pipeline_execution, arn)
        return instructions.Described(described_at, self._retry(describe))

    def _add_up(self, instruction: Ended) -> instructions.AddedUp:
        record = instruction.record
        arn = instruction.execution.arn
        hook = self._hook_of(arn)
        limit = read_limit(self.max_cost, record.region_name)
        if limit is None:
            raise LookupError("the task has no max_cost")
        limit = record.limit_in(instruction.task_try.epoch, limit)
        steps: Sequence[StepDescription] = ()
        if record.epoch == instruction.task_try.epoch:
            # After a clear, the cost of earlier attempts does not count.
            list_steps = partial(hook.list_pipeline_execution_steps, arn)
            steps = self._retry(list_steps)
        store = spending.StepJobStore(record.step_jobs)
        reader = spending.SpendingReader(hook, self.log.warning, store)
        return instructions.AddedUp(reader.spending(limit, steps))

    def _stop(self, instruction: Identified) -> instructions.Accepted:
        arn = instruction.arn
        attempt = instruction.record.resumes
        self._retry(partial(request_stop, self._hook_of(arn), arn, attempt=attempt))
        return instructions.Accepted(clock.now())

    # ---- a new execution

    def _prepare(self, instruction: Beginning) -> instructions.Prepared:
        hook = self.hook_for_region(None)
        number = instruction.start_number
        request, draft = self._make_request(hook, instruction.task_try, number)
        read_limit(self.max_cost, hook.client_region)
        if draft:
            request = self._put_pipeline(hook, draft, request)
        self._check_by_definition(hook, request)
        request = parameter_check.with_source(hook, request, self._retry)
        # Never empty: without a region, the hook has raised an error.
        return instructions.Prepared(request, hook.region_name or "")

    def _pipeline_name(self, task_try: instructions.TaskTry) -> str:
        if self.own_pipeline:
            return self.own_pipeline.name_for(task_try.task)
        name: str = self.arguments["pipeline_name"]
        return name

    def _put_pipeline(
        self,
        hook: PolysyncSageMakerHook,
        draft: PipelineDraft,
        request: models.StartRequest,
    ) -> models.StartRequest:
        """
        Make the pipeline of the task, and return the request for this version of it:
        another run may make another one before the start.

        It may be repeated: a try that dies here leaves a pipeline, and nothing runs.
        """
        put = call_with_retry(
            partial(hook.put_pipeline, draft),
            until=self.deadline,
            warn=self.log.warning,
            conflict_seconds=PUT_TIMEOUT_SECONDS,
        )
        self.log.info("Version %d of pipeline %s", put.version_id, put.arn)
        self._made_at = clock.time()
        return request.model_copy(update={"pipeline_version_id": put.version_id})

    def _make_request(
        self,
        hook: PolysyncSageMakerHook,
        task_try: instructions.TaskTry,
        number: int = 0,
    ) -> tuple[models.StartRequest, PipelineDraft | None]:
        """Return the request of a start, and the pipeline that the task makes."""
        task = task_try.task
        epoch = task_try.epoch
        token = task.token(epoch, number)
        display_name = task.display_name(epoch, number)
        page = deployment.url_of(task.key.page)
        arguments = dict(self.arguments)
        draft = None
        if self.own_pipeline:
            role_arn = hook.execution_role_arn
            draft, parameters = self.own_pipeline.make(task, hook, role_arn)
            arguments["pipeline_name"] = draft.pipeline_name
            arguments["pipeline_parameters"] = parameters
        request = make_start_request(arguments, token, display_name, page)
        request = with_role(request, hook.execution_role_arn)
        hook.check_supported(request)
        return request, draft

    def _check_by_definition(
        self, hook: PolysyncSageMakerHook, request: models.StartRequest
    ) -> None:
        if not self.validate_parameters and not request.selected_steps:
            return
        try:
            describe = partial(parameter_check.describe_version, hook, request)
            pipeline = self._retry(describe)
        except exceptions.SageMakerApiError as error:
            raise parameter_check.explain_refusal(hook, request, error) from None
        if self.validate_parameters:
            parameter_check.check_parameters(pipeline.definition, request)
        parameter_check.check_selection(pipeline.definition, request)

    def _start(self, instruction: Begun) -> instructions.Started | instructions.Refused:
        record = instruction.record
        hook = self.hook_for_region(record.region_name)
        # An earlier session may have prepared the request, by its own arguments.
        read_limit(self.max_cost, record.region_name)
        result = self._send(partial(self._send_start, hook, record.request))
        if not isinstance(result, instructions.Refused):
            arn, at = result
            return instructions.Started(at or clock.now(), arn)
        error = result.error
        is_first = instruction.command is instructions.Command.START
        if is_first and isinstance(error, exceptions.SageMakerApiError):
            error = parameter_check.explain_refusal(hook, record.request, error)
        return result._replace(error=error)

    def _send_start(
        self, hook: PolysyncSageMakerHook, request: models.StartRequest
    ) -> tuple[str, datetime | None]:
        try:
            return send_start(hook, request)
        except exceptions.SageMakerApiError as error:
            is_missing = exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND)
            is_new = clock.time() < self._made_at + waiter.LAG_SECONDS
            if self.own_pipeline and is_missing and is_new:
                # AWS has created it, and may not find it everywhere yet.
                raise error.as_transient() from None
            raise

    # ---- a resume

    def _resume(
        self, instruction: Identified
    ) -> instructions.Accepted | instructions.Refused:
        record = instruction.record
        hook = self._hook_of(instruction.arn)
        self._log_unused_arguments(instruction)
        self._log_steps(hook, instruction.arn)
        resume = partial(
            send_resume,
            hook,
            instruction.arn,
            token=record.resume_token or "",
            max_parallel_steps=record.request.max_parallel_steps,
        )
        result = self._send(resume)
        if isinstance(result, instructions.Refused):
            return result
        return instructions.Accepted(result or clock.now())

    def _log_unused_arguments(self, instruction: Identified) -> None:
        arn = instruction.arn
        hook = self.hook_for_region(None)
        try:
            current, draft = self._make_request(hook, instruction.task_try)
            if draft:
                # No version was made for this try.
                version = instruction.record.request.pipeline_version_id
                current = current.model_copy(update={"pipeline_version_id": version})
            sent = sent_parameters(self._hook_of(arn), instruction, self.log.warning)
            unused = unused_arguments(instruction.record.request, sent, current)
        except exceptions.PolysyncError as error:
            self.log.warning(
                "The arguments of this try are not valid, and are not used: %s"
                " Execution: %s",
                error,
                arn,
            )
            return
        if unused:
            self.log.warning(
                "AWS resumes with the values of the start. The arguments that have"
                " other values now are not used: %s: execution %s",
                ", ".join(unused),
                arn,
            )

    def _log_steps(self, hook: PolysyncSageMakerHook, arn: str) -> None:
        try:
            steps = hook.list_pipeline_execution_steps(arn)
        except exceptions.PolysyncError as error:
            self.log.warning(
                "The steps that will be repeated could not be listed: %s", error
            )
            return
        kept = []
        repeated = []
        for step in steps:
            if step.status == "Succeeded":
                kept.append(step.name)
            else:
                repeated.append(f"{step.name} ({step.status})")
        self.log.info(
            "Resuming from the failed steps. Kept: %s. Repeated: %s, and all steps"
            " after: execution %s",
            ", ".join(sorted(kept)) or "none",
            ", ".join(sorted(repeated)) or "none",
            arn,
        )

    # ---- what the calls share

    def _hook_of(self, arn: str) -> PolysyncSageMakerHook:
        return self.hook_for_region(models.region_from_arn(arn))

    def _retry(self, call: Callable[[], Result]) -> Result:
        return call_with_retry(call, until=self.deadline, warn=self.log.warning)

    def _send(self, call: Callable[[], Result]) -> Result | instructions.Refused:
        """Send a start or a resume, with retries."""
        problems: list[str] = []

        def warn(problem: str) -> None:
            problems.append(problem)
            self.log.warning(problem)

        try:
            return call_with_retry(call, until=self.deadline, warn=warn)
        except exceptions.PolysyncError as error:
            return instructions.Refused(error, clock.now(), was_repeated=bool(problems))


def sent_parameters(
    hook: PolysyncSageMakerHook, instruction: Identified, warn: Callable[..., object]
) -> Mapping[str, str]:
    """
    Return the parameters of an execution: from the record of the try that has sent
    them, else from AWS, as a stored record does not keep their values.

    :param hook: the hook for the region of the execution.
    :param warn: called with a format and its arguments if AWS does not tell them.
    """
    parameters = instruction.record.request.pipeline_parameters
    if parameters:
        return parameters
    try:
        return hook.list_pipeline_parameters_for_execution(instruction.arn)
    except exceptions.PolysyncError as error:
        warn(
            "The parameters of the execution are not known: %s Execution: %s",
            error,
            instruction.arn,
        )
        return {}
