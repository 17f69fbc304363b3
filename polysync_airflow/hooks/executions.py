"""
The methods of the hook for pipelines, executions and model packages: one for each
operation of AWS.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from polysync_airflow import exceptions, metrics, states
from polysync_airflow.auth.base_hook import PolysyncBaseHook, Response, Result
from polysync_airflow.aws.job_logs import log_of_step
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.responses import (
    MAX_ENTRIES,
    MAX_STEPS,
    PAGE_SIZE,
    invalid_response_error,
    paginate,
    pagination_error,
)
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import (
    approval,
    clock,
    models,
    parameters,
    pipelines,
    texts,
)
from polysync_airflow.execution.approval import (
    ModelPackageDescription,
    ModelPackageSummary,
)
from polysync_airflow.execution.models import (
    ApprovalStatus,
    ExecutionDescription,
    StartRequest,
)
from polysync_airflow.execution.pipelines import (
    DeclaredStep,
    PipelineDescription,
    PipelineSummary,
)
from polysync_airflow.execution.search import ListedExecution, ParameterOfExecution
from polysync_airflow.execution.steps.descriptions import (
    StepDescription,
    counted_from_one,
)

Model = TypeVar("Model", bound=BaseModel)
# Makes a call and returns its response, for example under a rate limiter and with
# retries.
Caller = Callable[[Callable[[], Response]], Response]
# Is told of an entry of a list that is not valid, and what is wrong with it.
OnInvalid = Callable[[Any, str], object]


# The members of requests that the oldest supported boto3 does not know came with this
# version.
NEWEST_MEMBERS_SINCE: Final = "1.43.127"


class HookCalls(PolysyncBaseHook):
    """Base of the classes that have the methods of the hook."""

    def _check_member(
        self, operation: str, member: str, argument: str, value: Any
    ) -> None:
        """
        Raise an error if an argument has a value that the installed botocore cannot
        send.
        """
        service_model = self._signed_in_client.meta.service_model
        members = service_model.operation_model(operation).input_shape.members
        if value and member not in members:
            raise exceptions.ParametersError(
                f"{argument} = {value!r} needs boto3 {NEWEST_MEMBERS_SINCE} or newer;"
                f" this deployment has boto3 {version('boto3')}. Upgrade boto3, or"
                " leave the argument out."
            )

    def _entries_of_list(
        self,
        operation: str,
        member: str,
        limit: int,
        through: Caller | None,
        **request: Any,
    ) -> Iterator[Any]:
        if through is None:
            key = (self.polysync_conn_id, self.region_name)
            through = rate_limiter_for(key, clock.monotonic()).call
        call_page: Caller = through

        def list_page(token: str | None) -> tuple[Response, Any]:
            call = partial(
                self.call, operation, MaxResults=PAGE_SIZE, NextToken=token, **request
            )
            page = call_page(call)
            return page, page.get("NextToken")

        count = 0
        for page in paginate(operation, list_page):
            entries = entries_of(page, operation, member)
            count += len(entries)
            if count > limit:
                raise pagination_error(operation, f"it has more than {limit:,} entries")
            yield from entries


def result_or_error(
    call: Callable[..., Result], *arguments: Any
) -> Result | PolysyncError:
    """Make a call; return an error instead of raising it: what decides takes both."""
    try:
        return call(*arguments)
    except PolysyncError as error:
        return error


def parse(model: type[Model], operation: str, response: Any) -> Model:
    """
    Return a response as a model.

    :raises SageMakerApiError: the response is not valid.
    """
    try:
        return model.model_validate(response)
    except ValidationError as error:
        raise invalid_response_error(
            operation, texts.describe_validation_error(error)
        ) from None


def valid(model: type[Model], entries: Iterable[Any]) -> Iterator[Model]:
    """
    Iterate over the entries of a list as models. A damaged one must not hide the
    others.
    """
    for entry in entries:
        with suppress(ValidationError):
            yield model.model_validate(entry)


def entries_of(page: Response, operation: str, member: str) -> list[Any]:
    """
    Return the entries of a page of a list.

    :raises SageMakerApiError: the response has no such list.
    """
    entries = page.get(member)
    if not isinstance(entries, list):
        raise invalid_response_error(operation, f"it has no list {member}")
    return entries


# StopPipelineExecution returns ConflictException for a moment while an execution moves
# between two steps.
STOP_ATTEMPTS: Final = 5
STOP_RETRY_SECONDS: Final = 0.3

# Such members of StartPipelineExecution, with their arguments.
NEWEST_MEMBERS: Final = {
    "RoleArn": "execution_role_arn",
    "PipelineVersionAlias": "pipeline_version_alias",
}


class ExecutionMethods(HookCalls):
    """Start, resume, stop, describe and list executions."""

    def start_pipeline_execution(self, request: StartRequest) -> str:
        """
        Start an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html

        :param request: the request. If it is sent again with the same client token, AWS
            returns the execution that it has already started.
        :return: ARN of the execution.
        :raises SageMakerApiError: the call failed.
        """
        arn, _ = send_start(self, request)
        return arn

    def retry_pipeline_execution(
        self, execution_arn: str, *, token: str, max_parallel_steps: int | None = None
    ) -> None:
        """
        Resume a failed execution: AWS keeps the steps that have succeeded, and runs the
        others.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html

        :param token: client request token of 32 to 128 characters. If the request is
            sent again with the same token, AWS does not resume a second time.
        :param max_parallel_steps: number of steps that may run at the same time; None
            for the limit of the pipeline, even if the execution was started with
            another one.
        :raises SageMakerApiError: the call failed.
        """
        send_resume(
            self, execution_arn, token=token, max_parallel_steps=max_parallel_steps
        )

    def stop_pipeline_execution(
        self, execution_arn: str, *, attempt: int | None = None
    ) -> None:
        """
        Request a stop of an execution. Its status becomes Stopping first, and it may
        still succeed or fail.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html

        :param attempt: the attempt of the execution: 0 for its start, n for its n-th
            resume. All requests for the same attempt have the same client token, so
            that AWS stops it once; only the last one after conflicts has a new token.
            None for a new token.
        :raises SageMakerApiError: the call failed, for example because the execution
            has already ended.
        """
        number = uuid.uuid4() if attempt is None else attempt
        # The ARN alone is not enough: AWS would take the stop of a resumed execution
        # for the one before the resume.
        stop = f"{execution_arn}#{number}"
        retrying = Retrying(
            retry=retry_if_exception(
                lambda error: exceptions.has_code(error, exceptions.CONFLICT)
            ),
            stop=stop_after_attempt(STOP_ATTEMPTS),
            wait=wait_fixed(STOP_RETRY_SECONDS),
            sleep=clock.sleep,
            reraise=True,
        )
        for request in retrying:
            with request:
                if request.retry_state.attempt_number == STOP_ATTEMPTS:
                    # AWS does not document whether a token that it has refused with a
                    # conflict can stop the execution later.
                    stop = f"{execution_arn}#{uuid.uuid4()}"
                self._send_stop(execution_arn, stop)

    def _send_stop(self, execution_arn: str, stop: str) -> None:
        """
        Request a stop once.

        :param stop: what AWS takes for one stop.
        """
        token = f"polysync-stop-{hashlib.sha256(stop.encode()).hexdigest()}"
        _call_on(self, execution_arn, "StopPipelineExecution", ClientRequestToken=token)

    def describe_pipeline_execution(self, execution_arn: str) -> ExecutionDescription:
        """
        Describe an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html

        :raises SageMakerApiError: the call failed. Its code is ``OtherAccount`` if the
            execution is in another account than the one that the connection signs in
            to.
        """
        operation = "DescribePipelineExecution"
        try:
            response = _call_on(self, execution_arn, operation)
        except exceptions.SageMakerApiError as error:
            raise self._named_account(error, execution_arn) from None
        return parse(ExecutionDescription, operation, response)

    def _named_account(
        self, error: exceptions.SageMakerApiError, execution_arn: str
    ) -> exceptions.SageMakerApiError:
        """
        Return the error of a call about an execution, or the one that names both
        accounts if the execution is in another one.
        """
        if not exceptions.has_code(
            error,
            exceptions.ACCESS_DENIED,
            exceptions.RESOURCE_NOT_FOUND,
            exceptions.VALIDATION,
        ):
            return error
        account = execution_arn.split(":")[4]
        if self._account in (None, account):
            return error
        return exceptions.SageMakerApiError(
            f"{error.operation} failed: execution {execution_arn} is in account"
            f" {account}, but connection {self.polysync_conn_id!r} signs in to account"
            f" {self._account}. Let the connection sign in to account {account} again."
            " If that execution is to be given up, delete the record of its task"
            " (polysync records lists them), and clear the task.",
            error_code=exceptions.OTHER_ACCOUNT,
            operation=error.operation,
            permanent=True,
        )

    @cached_property
    def _account(self) -> str | None:
        """The account that the connection signs in to; None if STS does not tell it."""
        try:
            account: str = self.get_caller_identity()["Account"]
        except exceptions.CredentialsError as error:
            self.log.debug("The account is not known: %s", error)
            return None
        return account

    def poll_pipeline_execution(
        self, execution_arn: str
    ) -> ExecutionDescription | PolysyncError:
        """
        Describe an execution; return an error instead of raising it: ``decide`` takes
        both.
        """
        return result_or_error(self.describe_pipeline_execution, execution_arn)

    def list_pipeline_executions(
        self,
        pipeline_name: str,
        *,
        created_after: datetime | None = None,
        page_token: str | None = None,
    ) -> tuple[list[ExecutionDescription], str | None]:
        """
        List one page of a pipeline's executions, sorted by creation time, the newest
        first.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

        :param pipeline_name: name or ARN of the pipeline.
        :param created_after: list only executions that were created after this time.
        :param page_token: token of this page, which the page before returned; None for
            the first page.
        :return: at most 100 executions, and the token of the next page; None after the
            last page. Entries that are not valid are left out.
        :raises SageMakerApiError: the call failed.
        """
        operation = "ListPipelineExecutions"
        page = self.call(
            operation,
            MaxResults=PAGE_SIZE,
            PipelineName=pipeline_name,
            SortBy="CreationTime",
            SortOrder="Descending",
            CreatedAfter=created_after,
            NextToken=page_token,
        )
        entries = entries_of(page, operation, "PipelineExecutionSummaries")
        return list(valid(ExecutionDescription, entries)), page.get("NextToken")

    def list_pipeline_execution_steps(
        self, execution_arn: str, *, through: Caller | None = None
    ) -> list[StepDescription]:
        """
        List all steps of an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutionSteps.html

        :param through: function that makes the call for each page; None for the
            connection's rate limiter.
        :raises SageMakerApiError: a call failed, or the list does not end.
        """
        operation = "ListPipelineExecutionSteps"
        entries = self._entries_of_list(
            operation,
            "PipelineExecutionSteps",
            MAX_STEPS,
            through,
            PipelineExecutionArn=execution_arn,
        )
        steps = [parse(StepDescription, operation, entry) for entry in entries]
        return counted_from_one(steps)

    def find_pipeline_executions(
        self,
        pipeline_name: str,
        *,
        created_after: datetime | None,
        created_before: datetime | None = None,
        newest_first: bool = False,
        through: Caller | None = None,
    ) -> Iterator[ListedExecution]:
        """
        Iterate over the executions of a pipeline. Pages are listed when needed.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

        :param pipeline_name: name or ARN of the pipeline.
        :param created_after: list only executions that were created after this time;
            None for all.
        :param created_before: list only executions that were created before this time.
        :param newest_first: the order; otherwise, the oldest comes first.
        :param through: function that makes the call for each page; None for the
            connection's rate limiter.
        :return: the executions. Entries that are not valid are left out.
        :raises SageMakerApiError: a call failed, or the list does not end.
        """
        order = "Ascending"
        if newest_first:
            order = "Descending"
        entries = self._entries_of_list(
            "ListPipelineExecutions",
            "PipelineExecutionSummaries",
            MAX_ENTRIES,
            through,
            PipelineName=pipeline_name,
            CreatedAfter=created_after,
            CreatedBefore=created_before,
            SortBy="CreationTime",
            SortOrder=order,
        )
        return valid(ListedExecution, entries)

    def list_pipeline_parameters_for_execution(
        self, execution_arn: str, *, through: Caller | None = None
    ) -> dict[str, str]:
        """
        Return the parameters of an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineParametersForExecution.html

        :param through: function that makes the call for each page; None for the
            connection's rate limiter.
        :raises SageMakerApiError: a call failed, or the response is not valid.
        """
        operation = "ListPipelineParametersForExecution"
        entries = self._entries_of_list(
            operation,
            "PipelineParameters",
            models.MAX_PARAMETERS,
            through,
            PipelineExecutionArn=execution_arn,
        )
        values = {}
        for entry in entries:
            parameter = parse(ParameterOfExecution, operation, entry)
            values[parameter.name] = parameter.value
        return values

    def describe_pipeline_definition_for_execution(
        self, execution_arn: str
    ) -> list[DeclaredStep]:
        """
        Return the steps of the definition that an execution runs, in its order.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineDefinitionForExecution.html

        :raises SageMakerApiError: the call failed.
        """
        operation = "DescribePipelineDefinitionForExecution"
        response = self.call(operation, PipelineExecutionArn=execution_arn)
        definition = response.get("PipelineDefinition")
        if not isinstance(definition, str):
            definition = None
        return pipelines.declared_steps(definition)

    def read_step_log(self, step: StepDescription, limit: int) -> list[str]:
        """
        Return the last lines of the log of a step's job.

        https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html

        :return: no lines if the kind of the step writes no log, or the job has written
            none.
        :raises SageMakerApiError: a call failed.
        """
        log = log_of_step(step, self.call_logs)
        if log is None:
            return []
        return log.read_tail(limit, until=step.ended_at)

    def check_supported(self, request: StartRequest) -> None:
        """
        Check that the installed botocore can send a start request.

        :raises ParametersError: a field of the request needs a newer boto3.
        """
        for member, name in NEWEST_MEMBERS.items():
            self._check_member(
                "StartPipelineExecution", member, name, getattr(request, name)
            )


def send_start(hook: HookCalls, request: StartRequest) -> tuple[str, datetime | None]:
    """
    ``start_pipeline_execution``, which also returns when AWS has accepted it, by AWS's
    clock; None if AWS has not said so.
    """
    operation = "StartPipelineExecution"
    response = hook.call(operation, **request.to_aws())
    arn = _arn_in(operation, response)
    _, _, _, region, account, _ = arn.split(":", 5)
    if region != hook.region_name:
        raise invalid_response_error(
            operation, f"the execution's region is {region}, not {hook.region_name}"
        )
    pipeline = request.pipeline_name
    # Only the ARN of an own pipeline says whose its executions are.
    if pipeline.startswith("arn:") and not models.is_managed(pipeline):
        owner = pipeline.split(":")[4]
        if account != owner:
            raise invalid_response_error(
                operation, f"the execution's account is {account}, not {owner}"
            )
    return arn, models.sent_at(response)


def send_resume(
    hook: HookCalls, execution_arn: str, *, token: str, max_parallel_steps: int | None
) -> datetime | None:
    """
    ``retry_pipeline_execution``, which also returns when AWS has accepted it, by AWS's
    clock; None if AWS has not said so.
    """
    request: dict[str, Any] = {"ClientRequestToken": token}
    if max_parallel_steps:
        limit = {"MaxParallelExecutionSteps": max_parallel_steps}
        request["ParallelismConfiguration"] = limit
    response = _call_on(hook, execution_arn, "RetryPipelineExecution", **request)
    return models.sent_at(response)


def _call_on(
    hook: HookCalls, execution_arn: str, operation: str, **request: Any
) -> Response:
    """
    Call an operation on an execution, and check that the response is about this
    execution.
    """
    response = hook.call(operation, PipelineExecutionArn=execution_arn, **request)
    arn = _arn_in(operation, response)
    if arn.lower() != execution_arn.lower():
        raise invalid_response_error(operation, f"it is about {arn}")
    return response


def _arn_in(operation: str, response: Response) -> str:
    arn = response.get("PipelineExecutionArn")
    if not parameters.is_valid(parameters.EXECUTION_ARN, arn):
        raise invalid_response_error(operation, f"its PipelineExecutionArn is {arn!r}")
    return str(arn)


class StopResult(NamedTuple):
    """
    What became of a stop.

    :param text: what became of it, as a sentence.
    :param status: AWS's status of the execution now; None if the stop failed.
    :param error: why the execution may still be running although it should be stopped;
        None if it is not.
    """

    text: str
    status: str | None = None
    error: str | None = None


def request_stop(
    hook: ExecutionMethods, execution_arn: str, *, attempt: int | None = None
) -> str | None:
    """
    Request the stop of an execution.

    :param attempt: the attempt of the execution, so that repeated requests are one
        stop; None for a stop of its own.
    :return: None if AWS accepted the request; else the AWS status that makes a stop
        unnecessary: the execution has ended or is stopping already.
    :raises SageMakerApiError: if AWS refuses the stop of a running execution.
    """
    try:
        hook.stop_pipeline_execution(execution_arn, attempt=attempt)
    except SageMakerApiError as error:
        # The status is more reliable than the text of the refusal, which AWS may
        # change.
        current = hook.poll_pipeline_execution(execution_arn)
        if isinstance(current, PolysyncError):
            if current.transient:
                # The caller retries, and learns then whether the stop is still
                # necessary.
                raise current from error
            raise
        if states.is_stoppable(current.status):
            raise
        return current.status
    region = models.region_from_arn(execution_arn)
    metrics.count(
        metrics.EXECUTIONS_STOPPED, connection=hook.polysync_conn_id, region=region
    )
    return None


def stop_result(status: str | None) -> StopResult:
    """Return what became of a stop, as ``request_stop`` has returned it."""
    if status:
        text = (
            "No stop was needed: the execution has ended or is stopping (AWS status"
            f" {status})."
        )
        return StopResult(text, status)
    return StopResult("The execution was asked to stop.", states.STATUS_STOPPING)


def _valid_summaries(
    entries: Iterable[Any], on_invalid: OnInvalid
) -> Iterator[PipelineSummary]:
    for entry in entries:
        try:
            summary = PipelineSummary.model_validate(entry)
        except ValidationError as error:
            on_invalid(entry, texts.describe_validation_error(error))
        else:
            yield summary


class PipelineMethods(HookCalls):
    """Describe and list pipelines, and describe jobs."""

    def list_pipelines(
        self,
        name_prefix: str | None = None,
        *,
        managed_by: str | None = None,
        through: Caller | None = None,
        on_invalid: OnInvalid | None = None,
    ) -> Iterator[PipelineSummary]:
        """
        Iterate over the pipelines of the region, sorted by name. Pages are listed when
        needed. An entry that is not valid does not hide the others.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html

        :param name_prefix: list only pipelines whose names begin with it.
        :param managed_by: ``AWS`` for those that AWS manages; None or ``CUSTOMER`` for
            those of the account.
        :param through: function that makes the call for each page, such as
            ``ConcurrentCalls.call``; None for the connection's rate limiter.
        :param on_invalid: called with each entry that is not valid, and what is wrong
            with it; None for a warning in the log.
        :raises ParametersError: the installed boto3 does not know ``managed_by``.
        :raises SageMakerApiError: a call failed, or the list does not end.
        """
        operation = "ListPipelines"
        if managed_by != "AWS":
            # An older boto3 cannot name those of the account.
            managed_by = None
        self._check_member(operation, "ManagedBy", "managed_by", managed_by)
        entries = self._entries_of_list(
            operation,
            "PipelineSummaries",
            MAX_ENTRIES,
            through,
            SortBy="Name",
            SortOrder="Ascending",
            PipelineNamePrefix=name_prefix or None,
            ManagedBy=managed_by,
        )
        return _valid_summaries(entries, on_invalid or self._warn_of_entry)

    def _warn_of_entry(self, _: Any, problem: str) -> None:
        self.log.warning("An entry of ListPipelines is left out: %s", problem)

    def describe_pipeline(
        self,
        pipeline_name: str,
        version_id: int | None = None,
        *,
        version_alias: str | None = None,
    ) -> PipelineDescription:
        """
        Describe a pipeline, with its definition.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipeline.html

        :param pipeline_name: name or ARN of the pipeline.
        :param version_id: the version whose definition is returned; None for the
            latest.
        :param version_alias: an alias of the version, in place of its number.
        :raises SageMakerApiError: the call failed.
        """
        operation = "DescribePipeline"
        response = self.call(
            operation,
            PipelineName=pipeline_name,
            PipelineVersionId=version_id,
            PipelineVersionAlias=version_alias,
        )
        return parse(PipelineDescription, operation, response)

    @property
    def pipelines_arn(self) -> str:
        """The ARN pattern of all pipelines of the account and region."""
        account = self.get_caller_identity()["Account"]
        partition = self._signed_in_client.meta.partition
        return f"arn:{partition}:sagemaker:{self.region_name}:{account}:pipeline/*"


class ModelPackageMethods(HookCalls):
    """
    Describe versions of model package groups, find the newest one, and set their
    approval status.
    """

    def describe_model_package(self, model_package_arn: str) -> ModelPackageDescription:
        """
        Describe a version of a model package group.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html

        :raises ParametersError: the value is not the ARN of a version.
        :raises SageMakerApiError: the call failed, or the response is not valid, or
            about another model package.
        """
        operation = "DescribeModelPackage"
        arn = approval.check_model_package_arn(model_package_arn)
        response = self.call(operation, ModelPackageName=arn)
        description = parse(ModelPackageDescription, operation, response)
        # AWS has ARNs in lower case, also if a name in one is not.
        if description.arn.lower() != arn.lower():
            raise invalid_response_error(
                operation, f"it is about {description.arn}, not {arn}"
            )
        return description

    def newest_model_package(
        self, model_package_group: str
    ) -> ModelPackageSummary | None:
        """
        Return the version of a model package group that was registered last, whatever
        its status.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListModelPackages.html

        :param model_package_group: name or ARN of the group.
        :return: None if the group has no version.
        :raises ParametersError: the value is neither a name nor an ARN.
        :raises SageMakerApiError: the call failed.
        """
        operation = "ListModelPackages"
        group = approval.check_model_package_group(model_package_group)
        page = self.call(
            operation,
            ModelPackageGroupName=group,
            MaxResults=1,
            SortBy="CreationTime",
            SortOrder="Descending",
        )
        entries = entries_of(page, operation, "ModelPackageSummaryList")
        if not entries:
            return None
        newest = parse(ModelPackageSummary, operation, entries[0])
        is_of_group = approval.group_of(newest.arn) == approval.group_of(group)
        if not is_of_group or models.region_from_arn(newest.arn) != self.region_name:
            raise invalid_response_error(
                operation, f"it lists {newest.arn}, which is not of group {group}"
            )
        return newest

    def update_model_approval(
        self,
        model_package_arn: str,
        status: ApprovalStatus,
        description: str | None = None,
    ) -> None:
        """
        Set the approval status of a version of a model package group. The same call can
        be repeated.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateModelPackage.html

        :param status: ``Approved``, ``Rejected`` or ``PendingManualApproval``.
        :param description: why, at most 1,024 characters without line breaks; None
            keeps the one it has.
        :raises ParametersError: an argument is not valid. AWS was not called.
        :raises SageMakerApiError: the call failed.
        """
        arn = approval.check_model_package_arn(model_package_arn)
        approval.check_approval(status, description)
        self.call(
            "UpdateModelPackage",
            ModelPackageArn=arn,
            ModelApprovalStatus=status,
            ApprovalDescription=description,
        )
