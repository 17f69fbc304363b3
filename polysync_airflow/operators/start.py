"""
The operator that starts an execution of a pipeline: what a task declares.

``start_run.py`` runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from polysync_airflow.airflow_compat.sdk import AirflowTaskTimeout, is_trigger_timeout
from polysync_airflow.airflow_compat.teams import warn_of_hidden_connection
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.lifecycle.options import (
    OnClear,
    OnCompletedWithFailures,
    RetryMode,
)
from polysync_airflow.execution.outcome import OnCancelled
from polysync_airflow.execution.parameters import (
    REQUEST_ARGUMENTS,
    Flag,
    storable_parameters,
)
from polysync_airflow.operators import base, failure_callback

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context, XComArg
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from polysync_airflow.operators.start_run import StartRun

# The pipeline's name, which is the end of its ARN.
MAP_INDEX_TEMPLATE: Final = "{{ task.pipeline_name.rsplit('/')[-1] }}"


class StartOptions(base.WaitOptions, base.TryOptions, base.ReportOptions):
    """
    The options of a start. Each base class has those that one part decides by: the
    wait, the recovery, the report.

    :param job_logs: whether the wait writes the new lines of running jobs.
    """

    job_logs: Flag


class PolysyncStartPipelineOperator(base.ReportingOperator):
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
    :param job_logs: write the new lines of running jobs to the task's log with each
        list of the steps, at most the newest 200 of a job. That needs
        ``logs:DescribeLogStreams`` and ``logs:GetLogEvents``, and a call for each job.
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
    # Whether a cleared task stops an execution that runs.
    stop_on_clear = True

    def __init__(  # noqa: PLR0913 (for DAG authors)
        self,
        *,
        pipeline_name: str | XComArg,
        pipeline_parameters: Mapping[str, Any] | XComArg | None = None,
        execution_display_name: str | None = None,
        execution_description: str | None = None,
        max_parallel_steps: int | str | None = None,
        execution_role_arn: str | None = None,
        pipeline_version_id: int | str | XComArg | None = None,
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
        progress_interval: float | timedelta | None = base.DEFAULT_PROGRESS_INTERVAL,
        property_files: bool | Sequence[str] = False,
        validate_parameters: bool = False,
        wait_for_capacity: bool = False,
        max_cost: float | str | XComArg | None = None,
        job_logs: bool = False,
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
        self.job_logs = job_logs
        self.is_limited = max_cost is not None
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
        if job_logs and (not wait_for_completion or progress_interval is None):
            raise ParametersError(
                "job_logs=True needs wait_for_completion=True and progress_interval:"
                " the logs are read with each list of the steps."
            )
        # Also for a task that waits on a worker: its failure callback needs it.
        warn_of_hidden_connection(polysync_conn_id)
        self.on_failure_callback = failure_callback.with_own_callback(
            self.on_failure_callback
        )

    def prepare_for_execution(self) -> Self:
        """Return the copy that Airflow executes, before it renders the templates."""
        task = super().prepare_for_execution()
        # A cluster policy may have changed the limit.
        task.is_limited = task.max_cost is not None
        return task

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
        mapped.kwargs["on_failure_callback"] = failure_callback.with_own_callback(
            mapped.kwargs.get("on_failure_callback")
        )
        return mapped

    # ---- the run of a task

    # The run of this process, if it executes the task: ``on_kill``, the failure
    # callback and OpenLineage ask it.
    current_run: StartRun | None = None
    _is_killed = False
    # Whether the task makes its pipeline before a new execution.
    makes_pipeline = False

    def _run_in(self, context: Context) -> StartRun:
        from polysync_airflow.operators.start_run import StartRun

        return StartRun(self, context)

    def _begin_run(self, context: Context) -> StartRun:
        self.current_run = self._run_in(context)
        if self._is_killed:
            # The signal has come during the imports.
            self.current_run.try_runner.kill.request()
        return self.current_run

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """
        Start or reattach to an execution, push its XComs and, by default, wait for its
        end.
        """
        return self._begin_run(context).execute()

    @base.apply_retry_policy
    def execute_after_end(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Execute the task now that the execution of an earlier try has ended.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        return self._begin_run(context).execute_after_end(event)

    @base.apply_retry_policy
    def execute_after_pause(self, context: Context, event: object = None) -> str:
        """
        Execute the task again after a pause for want of capacity.

        :param event: the time, which Airflow's trigger has sent.
        """
        return self._begin_run(context).execute()

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
        return self._begin_run(context).complete(event, started)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """
        Continue after a deferral, also after one that no trigger has ended in time:
        while no triggerer has a free slot, nobody else keeps the deadline.
        """
        if is_trigger_timeout(next_method, next_kwargs):
            following = self._begin_run(context).end_without_trigger()
            if following:
                next_method, next_kwargs = following
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """
        Stop the execution that this process started or waits for, unless
        ``stop_on_kill=False``.

        If the worker shuts down, the execution is left to the next try.
        """
        # Airflow calls this in its signal handler, or directly when execution_timeout
        # has passed. The signal may have interrupted the imports of the run, so nothing
        # is imported here.
        self._is_killed = True
        if self.current_run:
            timed_out = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
            self.current_run.try_runner.stop_when_killed(timed_out=timed_out)

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
        lineage = None
        if self.current_run:
            lineage = self.current_run.lineage()
        return lineage or self.get_openlineage_facets_on_start()

    # A task may fail before it has an execution.
    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete
