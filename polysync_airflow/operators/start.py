"""
The operator that starts an execution of a pipeline.

How a try gets its execution, and what becomes of it, is in ``try_runner.py``;
the wait is in ``base.py``, and the report of the end in ``reporting.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from polysync_airflow.airflow_compat.sdk import AirflowTaskTimeout, is_trigger_timeout
from polysync_airflow.airflow_compat.teams import warn_of_hidden_connection
from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionFailedError,
    PipelineExecutionTooExpensiveError,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.options import (
    OnClear,
    OnCompletedWithFailures,
    RetryMode,
)
from polysync_airflow.execution.outcome import OnCancelled
from polysync_airflow.execution.parameters import REQUEST_ARGUMENTS, storable_parameters
from polysync_airflow.operators import base, reporting
from polysync_airflow.operators.failure_callback import with_own_callback
from polysync_airflow.retrying import may_retry_refusal, may_run_again
from polysync_airflow.states import PolysyncState, has_ended

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context, XComArg
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    # Imported when a task runs: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.lifecycle.instructions import (
        ExecutionRecord,
        Instruction,
    )
    from polysync_airflow.execution.lifecycle.next_session import NextSession
    from polysync_airflow.execution.waiter import ExecutionEvent
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.operators.results import StepReport
    from polysync_airflow.operators.try_runner import TryRunner

# The pipeline's name, which is the end of its ARN.
MAP_INDEX_TEMPLATE: Final = "{{ task.pipeline_name.rsplit('/')[-1] }}"


class StartOptions(base.WaitOptions, base.TryOptions, reporting.ReportOptions):
    """
    The options of a start. Each base class has those that one part decides by: the
    wait, the recovery, the report.
    """


class PolysyncStartPipelineOperator(reporting.ReportingOperator):
    """
    Start an execution of a SageMaker pipeline and, by default, wait until it has ended.

    At most one execution runs for one task instance. A retry continues with the
    execution of the previous try, even if that try died before it received the ARN.
    After a clear, the next try stops the old execution before it starts a new one, or
    resumes it if it has failed (``on_clear``).

    The task pushes the XComs ``execution_arn``, ``console_url``, ``state`` (a Polysync
    state), ``run`` and ``steps`` as soon as the execution exists. It pushes the last
    three again when the wait has ended, even if the task then fails, and ``outputs``:
    what each step made. The events of assets in ``outlets`` get the extra
    ``execution_arn``, ``console_url`` and ``model_package_arns``. See
    docs/reference/xcoms.md. API:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html

    :param pipeline_name: the name or ARN of the pipeline (templated).
    :param pipeline_parameters: parameter values by name: strings, numbers or booleans,
        sent as ``str(value)``, so ``True``, not ``true`` (templated).
    :param execution_display_name: 1 to 82 letters, digits and hyphens (templated).
        Default: a unique name made from DAG, task and run.
    :param execution_description: at most 3,072 characters (templated). The page of the
        task in Airflow follows it, as far as there is room. Default: none.
    :param max_parallel_steps: how many steps may run at the same time, at least 1
        (templated).
    :param execution_role_arn: the role under which the execution of a pipeline that AWS
        manages runs, which needs one (templated). AWS accepts it for no other pipeline.
        Needs boto3 1.43.127. Default: the role of the connection.
    :param pipeline_version_id: the pipeline version to run, at least 1 (templated).
        Default: the latest.
    :param pipeline_version_alias: an alias of the version to run, in place of its
        number (templated). Needs boto3 1.43.127.
    :param selected_steps: the names of the steps to run, 1 to 50, compared with the
        definition before the start (templated). The steps that they need are taken from
        ``source_execution``. Default: all.
    :param source_execution: the ARN of an execution of the pipeline that has succeeded
        or failed, or ``latest``: the newest one (templated).
    :param mlflow_experiment_name: the MLflow experiment of the execution, at most 256
        characters (templated).
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or
        ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :param wait_for_completion: whether to wait for the end of the execution.
    :param deferrable: wait in the triggerer instead of on a worker.
        Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds, or a timedelta, between two polls. The first poll
        comes after 5 seconds at the earliest.
    :param timeout: seconds, or a timedelta, that the execution may take, counted from
        its start; ``execution_timeout`` applies if it is shorter, also while the task
        is deferred. If no triggerer has a free slot, the task ends 15 minutes later.
    :param stop_on_kill: stop the execution when the task ends before it: the task is
        marked as success or failed, cleared, failed with its DAG run, out of time, or
        failed without a retry. With False, the execution then goes on without
        ``max_cost``.
    :param on_completed_with_failures: ``fail`` or ``succeed`` when AWS reports
        CompletedWithFailures.
    :param on_cancelled: when somebody else stopped the execution: ``fail`` without
        using retries, ``skip``, or ``retry`` (an ordinary failure, which uses retries).
    :param retry_mode: what a retry does when the previous execution failed: ``new``
        starts another execution, ``resume`` continues the execution from the failed
        steps (RetryPipelineExecution).
    :param on_clear: what a cleared task does if its execution has failed: ``new`` or
        ``resume``. If the execution runs, succeeded or was stopped, a new one starts
        (after the stop of the one that runs).
    :param progress_interval: seconds, or a timedelta, between two lists of the steps
        while the task waits, at least 10 seconds; None for none. Their changes are
        written to the task's log.
    :param property_files: read the JSON files that processing steps declare, such as
        evaluation reports, into ``outputs``: True for all, or at most 50 names. That
        needs ``s3:GetObject``.
    :param validate_parameters: compare the parameters with the pipeline's definition
        before a new execution starts, which costs one DescribePipeline. Without it they
        are compared only if AWS refuses the start.
    :param wait_for_capacity: if AWS refuses the start for a quota, send it again after
        a pause; if the execution fails for want of capacity, resume it after a pause.
        The first pause is ``poll_interval``, each is twice as long as the one before,
        from ten seconds up to ten minutes. After ``timeout``, the task fails.
    :param max_cost: what the task may cost, from one clear to the next, with all its
        executions, resumes and retries: a number in the currency of
        ``[polysync_sagemaker] hourly_prices`` (templated). The cost is estimated with
        each list of the steps. At the limit, the execution is stopped, and the task
        fails without its retries. ``[polysync_sagemaker] max_cost`` counts if it is
        lower. Nobody keeps the limit after the end of the task, or while no triggerer
        has a free slot. Default: no limit; a template that renders to None is an error.
    :return: the ARN of the execution (XCom ``return_value``).
    :raises ParametersError: an argument is not valid; no execution was started.
    :raises CredentialsError: the connection is missing or unusable; no execution was
        started.
    :raises StoredRecordError: the record that earlier tries stored cannot be believed,
        and names an execution that runs; no execution was started, stopped or
        continued.
    :raises SageMakerApiError: AWS refused a call.
    :raises PipelineExecutionFailedError: the execution failed; the message has the
        failed steps' reasons.
    :raises PipelineExecutionCancelledError: somebody stopped the execution.
    :raises PipelineExecutionTimeoutError: the execution did not end in time.
    :raises PipelineExecutionTooExpensiveError: ``max_cost`` is spent.
    """

    template_fields: Sequence[str] = (
        *REQUEST_ARGUMENTS,
        "max_cost",
        "polysync_conn_id",
        "region_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "pipeline_parameters": "json"
    }
    options = base.ValidatedOptions(StartOptions)
    # Whether the process of the task shall end.
    _is_killed = False
    # Whether a cleared task stops an execution that runs.
    stop_on_clear = True

    def __init__(
        self,
        *,
        pipeline_name: str | XComArg,
        pipeline_parameters: Mapping[str, Any] | XComArg | None = None,
        execution_display_name: str | None = None,
        execution_description: str | None = None,
        max_parallel_steps: int | str | None = None,
        execution_role_arn: str | None = None,
        pipeline_version_id: int | str | None = None,
        pipeline_version_alias: str | None = None,
        selected_steps: Sequence[str] | XComArg | None = None,
        source_execution: str | XComArg | None = None,
        mlflow_experiment_name: str | None = None,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = base.DEFAULT_DEFERRABLE,
        poll_interval: float | timedelta = base.DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = base.DEFAULT_TIMEOUT,
        stop_on_kill: bool = True,
        on_completed_with_failures: OnCompletedWithFailures = "fail",
        on_cancelled: OnCancelled = "fail",
        retry_mode: RetryMode = "new",
        on_clear: OnClear = "new",
        progress_interval: float
        | timedelta
        | None = reporting.DEFAULT_PROGRESS_INTERVAL,
        property_files: bool | Sequence[str] = False,
        validate_parameters: bool = False,
        wait_for_capacity: bool = False,
        max_cost: float | str | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline_name = pipeline_name
        self.pipeline_parameters = pipeline_parameters
        self.execution_display_name = execution_display_name
        self.execution_description = execution_description
        self.max_parallel_steps = max_parallel_steps
        self.execution_role_arn = execution_role_arn
        self.pipeline_version_id = pipeline_version_id
        self.pipeline_version_alias = pipeline_version_alias
        self.selected_steps = selected_steps
        self.source_execution = source_execution
        self.mlflow_experiment_name = mlflow_experiment_name
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.stop_on_kill = stop_on_kill
        self.on_completed_with_failures = on_completed_with_failures
        self.on_cancelled = on_cancelled
        self.retry_mode = retry_mode
        self.on_clear = on_clear
        self.progress_interval = progress_interval
        self.property_files = property_files
        self.validate_parameters = validate_parameters
        self.wait_for_capacity = wait_for_capacity
        self.max_cost = max_cost
        self._is_limited = max_cost is not None
        _ = self.options  # raises an error if one is not valid
        if max_cost is not None and not wait_for_completion:
            raise ParametersError(
                "max_cost needs wait_for_completion=True: a task that does not wait"
                " does not know what its execution costs."
            )
        if max_cost is not None and progress_interval is None:
            raise ParametersError(
                "max_cost needs progress_interval: the cost is estimated with each list"
                " of the steps."
            )
        # Also for a task that waits on a worker: its failure callback needs it.
        warn_of_hidden_connection(polysync_conn_id)
        self.on_failure_callback = with_own_callback(self.on_failure_callback)

    @cached_property
    def try_runner(self) -> TryRunner:
        """The state of the try that this process executes."""
        from polysync_airflow.execution.lifecycle.capacity import CapacityLimits
        from polysync_airflow.operators.try_runner import TryRunner

        limits = CapacityLimits(self._poll_seconds, self._timeout_seconds)
        try_runner = TryRunner(
            self.options, self.hook_for_region, self.log, limits, self._limit_argument
        )
        # From here on, ``on_kill`` finds it; before, a kill is only noted.
        vars(self)["try_runner"] = try_runner
        if self._is_killed:
            try_runner.note_kill()
        return try_runner

    def prepare_for_execution(self) -> Self:
        """Return the copy that Airflow executes, before it renders the templates."""
        task = super().prepare_for_execution()
        # A cluster policy may have changed the limit.
        task._is_limited = task.max_cost is not None
        return task

    @property
    def _limit_argument(self) -> object:
        """``max_cost``, as it was rendered; ``NOT_GIVEN`` if the author gave none."""
        from polysync_airflow.execution.prices import NOT_GIVEN

        if self._is_limited or self.max_cost is not None:
            return self.max_cost
        return NOT_GIVEN

    @property
    def pipeline_parameters(self) -> Any:
        """
        The parameters of the start. A number that is too large for Airflow's database
        is a text, as AWS gets it.
        """
        return self._pipeline_parameters

    @pipeline_parameters.setter
    def pipeline_parameters(self, values: Any) -> None:
        self._pipeline_parameters = storable_parameters("pipeline_parameters", values)

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """
        Prepare a mapped operator. The DAG processor does not call ``__init__`` for it,
        so what must be known there is added here.
        """
        if "pipeline_name" not in kwargs:
            # Name mapped tasks by their pipelines, unless the author has set another
            # template.
            kwargs.setdefault("map_index_template", MAP_INDEX_TEMPLATE)
        if "pipeline_parameters" in kwargs:
            kwargs["pipeline_parameters"] = storable_parameters(
                "pipeline_parameters", kwargs["pipeline_parameters"]
            )
        warn_of_hidden_connection(
            kwargs.get("polysync_conn_id", base.DEFAULT_CONNECTION)
        )
        mapped = super().partial(**kwargs)
        mapped.kwargs["on_failure_callback"] = with_own_callback(
            mapped.kwargs.get("on_failure_callback")
        )
        return mapped

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """
        Start or reattach to an execution, push its XComs and, by default, wait for its
        end.
        """
        arn = None
        while arn is None:
            arn = self._execute_once(context)
        return arn

    def _execute_once(self, context: Context) -> str | None:
        """
        Get an execution and, by default, wait for its end.

        :return: its ARN; None if the task begins again.
        """
        try_runner = self.try_runner
        try_runner.is_executed = True
        self.earlier_summary = None
        self.steps_before = None
        with (
            try_runner.stop_on_final_failure(context, self.retry_policy),
            self._pushing_what_was_spent(context),
        ):
            instruction, end = self._get_execution(context)
            if end is None:
                self._push_started(context, instruction)
                if not self.options.wait_for_completion:
                    return self._leave_running(context, instruction.existing_record)
                end = self._wait_for_execution(context, instruction)
        return self._complete(context, end)

    def _get_execution(
        self, context: Context
    ) -> tuple[Instruction, ExecutionEvent | None]:
        """
        Get an execution, after the end of one that must not run beside it, and when
        there is capacity.

        :return: what the core says; and the end of the wait for an execution of earlier
            tries, if it has cost so much that nothing follows.
        """
        from polysync_airflow.execution.lifecycle.instructions import Command

        arguments = self._attributes(REQUEST_ARGUMENTS)
        get_execution = partial(self.try_runner.get_execution, context, arguments)
        instruction = get_execution()
        while instruction.command is not Command.WATCH:
            if instruction.command is Command.WAIT_FOR_END:
                end = self._wait_for_earlier_execution(context, instruction)
                if self._is_end_of_task(context, end):
                    return instruction, end
            else:
                self._pause(context, instruction.existing_record)
            instruction = get_execution()
        return instruction, None

    def _push_started(self, context: Context, instruction: Instruction) -> None:
        options = self.options
        self.run_summary = reporting.push_started(
            context,
            self.hook,
            instruction,
            self.try_runner.parameters_of(instruction),
            self.log,
            stops_with_task=options.stop_on_kill and options.wait_for_completion,
        )

    def _leave_running(self, context: Context, record: ExecutionRecord) -> str:
        from polysync_airflow.hooks.prices import has_limit

        if has_limit(self._limit_argument):
            self.log.warning(
                "The execution goes on without [polysync_sagemaker] max_cost,"
                " because of wait_for_completion=False."
            )
        context["ti"].xcom_push("state", PolysyncState.RUNNING.value)
        self._publish(context, record.arn, record.request.pipeline_name)
        self._forget(context)
        return record.arn

    @contextmanager
    def _pushing_what_was_spent(self, context: Context) -> Iterator[None]:
        """Push the XComs of a try that starts nothing: ``max_cost`` is spent."""
        try:
            yield
        except PipelineExecutionTooExpensiveError as error:
            self.run_summary = reporting.push_spent(context, self.hook, error, self.log)
            raise

    def on_kill(self) -> None:
        """
        Stop the execution that this process started or waits for, unless
        ``stop_on_kill=False``.

        If the worker shuts down, the execution is left to the next try.
        """
        # Airflow calls this in its signal handler, or directly when execution_timeout
        # has passed. The signal may have interrupted the imports of ``try_runner``, so
        # nothing is imported here.
        self._is_killed = True
        try_runner: TryRunner | None = vars(self).get("try_runner")
        if try_runner:
            try_runner.kill(timed_out=isinstance(sys.exc_info()[1], AirflowTaskTimeout))

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """
        Continue after a deferral, also after one that no trigger has ended in time:
        while no triggerer has a free slot, nobody else keeps the deadline.
        """
        if is_trigger_timeout(next_method, next_kwargs):
            _, record = self.try_runner.own_record(context)
            if record is not None:
                return self._execute_without_trigger(context, record)
        return super().resume_execution(next_method, next_kwargs, context)

    def _execute_without_trigger(
        self, context: Context, record: ExecutionRecord
    ) -> str:
        """Do what follows from a wait that no trigger has ended in time."""
        from polysync_airflow.execution.lifecycle.ending import AwaitedEnd, awaited_end

        reporting.report_missing_trigger(
            self.polysync_conn_id, record.region_name, self.log.warning
        )
        awaited = awaited_end(record, context["ti"].max_tries)
        if awaited is AwaitedEnd.PAUSE:
            return self.execute_after_pause(context)
        # The limit ends now, so this poll is the last one.
        since = clock.now() - timedelta(seconds=self._timeout_seconds)
        waiter = self._make_waiter(
            record.arn,
            record.request.pipeline_name,
            cost_limit=None,
            started_at=since,
            attempt=record.resumes,
        )
        event = self._wait_on_worker(waiter, None).model_dump(mode="json")
        if awaited is AwaitedEnd.EARLIER_EXECUTION:
            return self.execute_after_end(context, event)
        return self.execute_complete(context, event)

    @base.apply_retry_policy
    def execute_after_end(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Execute the task now that the execution of an earlier try has ended.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        from polysync_airflow.execution.waiter import ExecutionEvent, check_event

        if event is None:
            # As in ``execute_complete``.
            return self.execute(context)
        end = check_event(ExecutionEvent, event)
        # The failure callback has nothing to do if the trigger has stopped it.
        self.try_runner.is_handled = end.stop is not None
        if self._is_end_of_task(context, end):
            self.try_runner.is_executed = True
            return self._complete(context, end) or self.execute(context)
        return self.execute(context)

    @base.apply_retry_policy
    def execute_after_pause(self, context: Context, event: object = None) -> str:
        """
        Execute the task again after a pause for want of capacity.

        :param event: the time, which Airflow's trigger has sent.
        """
        return self.execute(context)

    @base.apply_retry_policy
    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        started: dict[str, Any] | None = None,
    ) -> str:
        """
        Push the outcome of the execution, and succeed, fail or skip accordingly.

        :param started: what is known from before the deferral: the XCom ``run`` and the
            declared steps.
        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        from polysync_airflow.execution.waiter import ExecutionEvent, check_event

        self.try_runner.is_executed = True
        # Airflow has stored it meanwhile, where others can edit it.
        before: dict[str, Any] = {}
        if isinstance(started, dict):
            before = started
        self._restore_run_summary(context, before.get("run"))
        if event is None:
            self.log.warning(
                "Airflow has resumed the task without an event, as airflow tasks test"
                " does: it goes on with its execution."
            )
            return self.execute(context)
        end = check_event(ExecutionEvent, event)
        declared_steps = before.get("declared_steps")
        self.steps_before = None
        if declared_steps is not None and end.known_steps is not None:
            self.steps_before = (declared_steps, end.known_steps)
        return self._complete(context, end) or self.execute(context)

    def _complete(self, context: Context, end: ExecutionEvent) -> str | None:
        """
        Push the outcome of the execution, and return its ARN, or raise the error of the
        task.

        :return: None if the task begins again.
        """
        note = None
        is_own_stop = False
        basis = self.try_runner.basis(context, end.execution_arn)
        if end.has_ended_by_itself:
            self.try_runner.release()
            reporting.count_end(end, self.polysync_conn_id)
        else:
            try_end = self.try_runner.finish(context, end, self.retry_policy)
            reporting.count_end(end, self.polysync_conn_id)
            if try_end.begins_again:
                return None
            note = try_end.text
            is_own_stop = try_end.is_own_stop
        report = self._report_end(context, end, basis)
        record = self._record_to_resume(context, end, report)
        if record:
            self._pause(context, record)
            return None
        refusal = self.try_runner.refusal
        arn = self._finish(
            context, end, report, note=note, is_own_stop=is_own_stop, refusal=refusal
        )
        self._forget(context)
        return arn

    def _record_to_resume(
        self, context: Context, end: ExecutionEvent, report: StepReport
    ) -> ExecutionRecord | None:
        """
        Return the record of an execution that is resumed after a pause, since it has
        failed for want of capacity only; None if its end is that of the task.
        """
        from polysync_airflow.execution.lifecycle.capacity import lacked_by

        error = self._make_error(end, "", is_own_stop=False)
        if not isinstance(error, PipelineExecutionFailedError):
            return None
        reason = lacked_by([row.reason for row in report.failed])
        if reason is None:
            return None
        return self.try_runner.wait_for_capacity(context, end, reason)

    def _pause(self, context: Context, record: ExecutionRecord) -> None:
        """
        Wait until a request is sent that lacks capacity.

        A deferred task goes on in ``execute_after_pause``.
        """
        from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

        wait = record.capacity
        if wait is None:
            raise LookupError("the record has no wait for capacity")
        self.log.warning(
            "Waits for capacity since %s, and asks again at %s: %s",
            f"{wait.since:%Y-%m-%d %H:%M:%S} UTC",
            f"{wait.asks_at:%Y-%m-%d %H:%M:%S} UTC",
            wait.reason,
        )
        reporting.push_waiting(context, record, wait, self.run_summary)
        pause = max(wait.asks_at - clock.now(), timedelta())
        if self.options.deferrable:
            self.defer(
                trigger=TimeDeltaTrigger(pause),
                method_name="execute_after_pause",
                timeout=base.trigger_timeout(clock.time() + pause.total_seconds()),
            )
        try:
            self.try_runner.sleep(pause.total_seconds())
        except AirflowTaskTimeout as error:
            text = "execution_timeout has passed while the task waited for capacity: "
            raise AirflowTaskTimeout(f"{text}{wait.reason}") from error
        self.try_runner.raise_if_killed()

    def _forget(self, context: Context) -> None:
        """Delete the record, because the task succeeds."""
        self.try_runner.forget_record(context)

    # Airflow's OpenLineage provider calls these. They make no call: what is known was
    # set before.

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what is known before the start: the pipeline and the parameters."""
        from polysync_airflow.lineage import before_start

        return before_start(
            self.pipeline_name, self.region_name, self.pipeline_parameters
        )

    def get_openlineage_facets_on_complete(
        self, task_instance: Any
    ) -> OperatorLineage[Any, Any]:
        """Return what is known of the execution, and the datasets of its steps."""
        from polysync_airflow.lineage import of_execution

        if self.run_summary is None:
            return self.get_openlineage_facets_on_start()
        return of_execution(
            self.run_summary,
            self.datasets,
            inlets=self.inlets,
            outlets=self.outlets,
        )

    # A task may fail before it has an execution.
    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete

    def _next_step(
        self,
        context: Context,
        end: ExecutionEvent,
        retry: NextSession | None,
        *,
        by_fail_step: bool,
    ) -> str | None:
        from polysync_airflow.execution.lifecycle.decisions import next_step

        button = reporting.RESUME_BUTTON
        say = partial(next_step, by_fail_step=by_fail_step, button=button)
        seen = self.try_runner.seen_by_next_try(context, end)
        return say(*seen, self.options, retry)

    def _wait_for_earlier_execution(
        self, context: Context, instruction: Instruction
    ) -> ExecutionEvent:
        """
        Wait for the end of an execution that must not run beside a new one.

        A deferred task goes on in ``execute_after_end``.
        """
        from polysync_airflow.execution.lifecycle import decisions, ending

        record = instruction.existing_record
        limit = None
        if not decisions.is_being_stopped(instruction):
            limit = self.try_runner.cost_limit(record, record.limit_of_attempt)
        waiter = self._make_waiter(
            record.arn,
            record.request.pipeline_name,
            cost_limit=limit,
            attempt=record.resumes,
        )
        stop_on_kill = self.options.stop_on_kill
        if self.options.stops_cleared:
            reporting.push_stopping(context, record)
        return self._wait_for_end(
            waiter,
            method_name="execute_after_end",
            trigger_timeout=base.trigger_timeout(waiter.deadline),
            stop_on_kill=stop_on_kill,
            stop_at=ending.outcomes_to_stop_earlier_at(
                stop_on_kill=stop_on_kill,
                is_last_try=not may_run_again(self.retry_policy, context),
                may_retry_refusal=may_retry_refusal(self.retry_policy, context),
            ),
        )

    def _is_end_of_task(self, context: Context, end: ExecutionEvent) -> bool:
        """
        Return whether the end of the wait for an earlier execution is that of the task:
        if it has cost too much, it is stopped, and no other one follows.

        :raises PolysyncError: the execution has not ended, for another reason.
        """
        if end.outcome != "too_expensive":
            reporting.raise_unless_ended(end)
            self.try_runner.forget_estimate(context)
            return False
        self.run_summary = reporting.push_earlier(context, self.hook, end, self.log)
        return True

    def _wait_for_execution(
        self, context: Context, instruction: Instruction
    ) -> ExecutionEvent:
        """
        Wait for the end of the execution on the worker, or defer the task, which then
        goes on in ``execute_complete``.
        """
        from polysync_airflow.execution.lifecycle import ending
        from polysync_airflow.execution.waiter import Finish

        record = instruction.existing_record
        limit = self.try_runner.cost_limit(
            record, partial(record.limit_in, instruction.task_try.epoch)
        )
        options = self.options
        if limit and not options.stop_on_kill:
            self.log.warning(
                "If the task ends before its execution, that goes on without max_cost,"
                " because of stop_on_kill=False."
            )
        reporter = self._step_reporter(context, record.arn, record.resumed_at)
        reporter.push_declared(record.request.selected_steps)
        waiter = self._make_waiter(
            record.arn,
            record.request.pipeline_name,
            cost_limit=limit,
            started_at=instruction.attempt_started_at,
            attempt=record.resumes,
        )
        if instruction.description and has_ended(instruction.description.status):
            result = waiter.decide(instruction.description, clock.time())
            if isinstance(result, Finish):
                return result.event
        self.try_runner.raise_if_killed()
        run = None
        if self.run_summary:
            run = reporting.storable_summary(self.run_summary, self.log.debug)
        return self._wait_for_end(
            waiter,
            kwargs={"started": {"run": run, "declared_steps": reporter.declared_steps}},
            trigger_timeout=base.trigger_timeout(waiter.deadline),
            stop_on_kill=options.stop_on_kill,
            stop_at=ending.outcomes_to_stop_at(
                stop_on_kill=options.stop_on_kill,
                may_retry_refusal=may_retry_refusal(self.retry_policy, context),
            ),
            progress_interval=self._list_seconds,
            declared_steps=reporter.declared_steps,
            after_poll=reporter.after_poll,
        )

    def _estimator(self, hook: PolysyncSageMakerHook, limit: str) -> base.Estimate:
        return self.try_runner.estimate(hook, limit)

    @property
    def _list_seconds(self) -> float | None:
        from polysync_airflow.hooks.prices import has_limit

        seconds = self.options.progress_interval
        if seconds is None and has_limit(self._limit_argument):
            # Only the deployment has a limit.
            return reporting.DEFAULT_PROGRESS_INTERVAL
        return seconds

    def _sleep(self, seconds: float) -> None:
        self.try_runner.sleep(seconds)
