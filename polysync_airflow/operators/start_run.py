"""
The run of a Start task: it gets an execution, waits for its end, and reports it.

How a try gets its execution, and what becomes of it, is in ``try_runner.py``; the wait
is in ``task_run.py``, and the report of the end in ``reporting.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Context
from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.sdk import AirflowTaskTimeout
from polysync_airflow.aws.job_logs import RunningJobLogs
from polysync_airflow.execution import clock, models, outcome, prices, texts
from polysync_airflow.execution.lifecycle import capacity, decisions, ending, plans
from polysync_airflow.execution.lifecycle.instruction_kinds import Identified
from polysync_airflow.execution.lifecycle.instructions import Command, ExecutionRecord
from polysync_airflow.execution.parameters import REQUEST_ARGUMENTS
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    check_event,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.prices import has_limit
from polysync_airflow.operators import base, reporting, results, try_runner
from polysync_airflow.operators.reporting import (
    NOTHING_BEFORE,
    BeforeDeferral,
    Following,
    Known,
    ReportingRun,
)
from polysync_airflow.operators.task_run import Estimate, trigger_timeout
from polysync_airflow.retrying import may_retry_refusal, may_run_again, next_session
from polysync_airflow.states import STATUS_STOPPING, PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from polysync_airflow.operators.start import (
        PolysyncStartPipelineOperator,
        StartOptions,
    )


class StartRun(ReportingRun):
    """One session of a Start task."""

    task: PolysyncStartPipelineOperator
    options: StartOptions
    is_of_group = False
    # Writes the lines of running jobs while the worker waits; None for nothing.
    _job_logs: RunningJobLogs | None = None

    def __init__(self, task: PolysyncStartPipelineOperator, context: Context) -> None:
        super().__init__(task, context)
        self.try_runner = try_runner.TryRunner(
            task,
            context,
            options=self.try_options,
            hook_for_region=self.hook_for_region,
            limits=capacity.CapacityLimits(
                self.options.poll_seconds, self.timeout_seconds
            ),
            max_cost=self._max_cost,
            is_of_group=self.is_of_group,
        )

    @property
    def _max_cost(self) -> object:
        """``max_cost``, as it was rendered; ``NOT_GIVEN`` if the author gave none."""
        if self.task.is_limited or self.task.max_cost is not None:
            return self.task.max_cost
        return prices.NOT_GIVEN

    # ---- what Airflow calls

    def execute(self) -> str:
        """
        Get an execution and, by default, wait for its end.

        :return: the ARN of the execution.
        """
        arn = None
        while arn is None:
            arn = self._execute_once()
        return arn

    def execute_after_end(self, event: object) -> str:
        """Execute the task now that the execution of an earlier try has ended."""
        if event is None:
            # As in ``complete``.
            return self.execute()
        end = check_event(ExecutionEvent, event)
        # The failure callback has nothing to do if the trigger has stopped it.
        self.try_runner.release(is_handled=end.stop is not None)
        if self._is_end_of_task(end):
            return self._complete(end) or self.execute()
        return self.execute()

    def complete(self, event: object, started: object) -> str:
        """
        Push the outcome of the execution, and return its ARN, or raise the error of the
        task.

        :param started: what is known from before the deferral.
        """
        # Airflow has stored it meanwhile, where others can edit it.
        stored: dict[str, Any] = {}
        if isinstance(started, dict):
            stored = started
        summary = self._summary_before(stored.get("run"))
        # Lineage names the execution, even if this process fails early.
        self.known = Known(summary)
        if event is None:
            self.log.warning(
                "Airflow has resumed the task without an event, as airflow tasks test"
                " does: it goes on with its execution."
            )
            return self.execute()
        end = check_event(ExecutionEvent, event)
        steps = None
        declared_steps = stored.get("declared_steps")
        if declared_steps is not None and end.known_steps is not None:
            steps = (declared_steps, end.known_steps)
        return self._complete(end, BeforeDeferral(summary, steps)) or self.execute()

    def end_without_trigger(self) -> tuple[str, dict[str, Any]] | None:
        """
        Return the method of the operator that follows on a wait that no trigger has
        ended in time, and its arguments; None if nobody knows the execution.
        """
        record = self.try_runner.own_record()
        if record is None:
            return None
        reporting.report_missing_trigger(
            self.task.polysync_conn_id, record.region_name, self.log.warning
        )
        awaited = ending.awaited_end(record, self.ti.max_tries)
        if awaited is ending.AwaitedEnd.PAUSE:
            return "execute_after_pause", {}
        # The limit ends now, so this poll is the last one.
        waiter = self.make_waiter(
            record.arn,
            record.request.pipeline_name,
            cost_limit=None,
            started_at=clock.now() - timedelta(seconds=self.timeout_seconds),
            attempt=record.resumes,
        )
        event = self.wait_on_worker(waiter, None).model_dump(mode="json")
        if awaited is ending.AwaitedEnd.EARLIER_EXECUTION:
            return "execute_after_end", {"event": event}
        return "execute_complete", {"event": event}

    def lineage(self) -> OperatorLineage[Any, Any] | None:
        """
        Return what is known of the execution, and the datasets of its steps; None if
        there is no execution.
        """
        if self.known.summary is None:
            return None
        from polysync_airflow.lineage import of_execution

        return of_execution(
            self.known.summary,
            self.known.datasets,
            inlets=self.task.inlets,
            outlets=self.task.outlets,
        )

    # ---- from the start to the end

    def request_arguments(self) -> Mapping[str, Any]:
        """Return the rendered arguments for a new execution."""
        return self.task.attributes(REQUEST_ARGUMENTS)

    def try_options(self) -> base.TryOptions:
        """Return the options by which this try gets its execution."""
        return self.options

    def _execute_once(self) -> str | None:
        """
        Get an execution and, by default, wait for its end.

        :return: its ARN; None if the task begins again.
        """
        with self.try_runner.stop_on_final_failure(), self._explaining_failure():
            instruction, end = self._get_execution()
            if end is None:
                self.push_started(instruction)
                if not self.options.wait_for_completion:
                    return self._leave_running(instruction)
                end = self._wait_for_execution(instruction)
        return self._complete(end)

    def _get_execution(self) -> tuple[Identified, ExecutionEvent | None]:
        """
        Get an execution, after the end of one that must not run beside it, and when
        there is capacity.

        :return: what the core says; and the end of the wait for an execution of earlier
            tries, if it has cost so much that nothing follows.
        """
        get_execution = partial(self.try_runner.get_execution, self.request_arguments())
        instruction = get_execution()
        while instruction.command is not Command.WATCH:
            if instruction.command is Command.WAIT_FOR_END:
                end = self.wait_for_earlier_execution(instruction)
                if self._is_end_of_task(end):
                    return instruction, end
            else:
                self._pause(instruction.record)
            instruction = get_execution()
        return instruction, None

    def push_started(self, instruction: Identified) -> None:
        """
        Push ``execution_arn``, the links and ``run`` as soon as the execution exists.

        :param instruction: what is known of the execution, which an earlier try may
            have started.
        """
        options = self.options
        until = None
        if options.wait_for_completion:
            began_at = instruction.attempt_started_at or clock.now()
            until = began_at + timedelta(seconds=self.timeout_seconds)
        arn = instruction.arn
        record = instruction.record
        request = record.request
        parameters = self.try_runner.parameters_of(instruction)
        self.ti.xcom_push("execution_arn", arn)
        name = request.pipeline_name
        reporting.push_links(self.context, self.hook, arn, name, self.log)
        if parameters:
            shown = texts.clean_text(json.dumps(dict(parameters)))
            self.log.info("Parameters: %s", shown)
        if request.selected_steps:
            steps = texts.clean_text(", ".join(request.selected_steps))
            self.log.info("Selected steps: %s", steps)
            self.log.info(
                "The steps that they need are those of: %s",
                request.source_execution or "no execution",
            )
        summary = outcome.RunSummary(
            execution_arn=arn,
            pipeline_name=name,
            state=PolysyncState.RUNNING.value,
            started_at=instruction.started_at,
            attempt_started_at=record.resumed_at,
            parameters=parameters,
            resumes=record.resumes,
            selected_steps=request.selected_steps or (),
            source_execution=request.source_execution,
            mlflow_experiment_name=request.mlflow_experiment_name,
            stops_with_task=options.stop_on_kill and options.wait_for_completion,
            next=reporting.plan_of(self.context, until=until),
        )
        reporting.push_run(self.context, summary.model_dump(mode="json"))
        self.known = Known(summary)

    def _leave_running(self, instruction: Identified) -> str:
        if has_limit(self._max_cost):
            self.log.warning(
                "The execution goes on without [polysync_sagemaker] max_cost,"
                " because of wait_for_completion=False."
            )
        self.ti.xcom_push("state", PolysyncState.RUNNING.value)
        self.publish(instruction.arn, instruction.record.request.pipeline_name)
        self.forget()
        return instruction.arn

    @contextmanager
    def _explaining_failure(self) -> Iterator[None]:
        """Push why a try starts nothing: the money that was spent, or an error."""
        try:
            yield
        except exceptions.PipelineExecutionTooExpensiveError as error:
            self._push_spent(error)
            raise
        except Exception as error:
            if self.known.summary is None:
                reporting.push_error(self.context, error)
                self._push_retry(error)
            raise

    def _push_spent(self, error: exceptions.PipelineExecutionTooExpensiveError) -> None:
        """
        Push the links to the last execution, ``state`` and ``run`` for a try that
        starts nothing, because ``max_cost`` is spent.
        """
        self._push_earlier(
            error.execution_arn or "",
            None,
            state=state_of(error.status).value,
            status=error.status,
            message=str(error).partition("\n")[0],
            spending=error.spending,
            added_up_at=error.spending.at,
            capacity=None,
            next=reporting.plan_of(self.context, clear="start"),
        )

    def _push_earlier(
        self, arn: str, pipeline_name: str | None, **changes: Any
    ) -> None:
        """
        Push the links to an execution of earlier tries, and ``run``: its end is that of
        the task.

        :param changes: the members of ``run`` that have changed.
        """
        name = pipeline_name or models.pipeline_name_of(arn)
        reporting.push_links(self.context, self.hook, arn, name, self.log)
        changes["pipeline_name"] = name
        summary = reporting.summary_of(self.context, arn).model_copy(update=changes)
        reporting.push_summary(self.context, summary)
        self.known = Known(summary)

    def _push_retry(self, error: Exception) -> None:
        """Push what comes next after an error that has kept a try from its wait."""
        retry = next_session(self.task.retry_policy, error, self.context)
        if retry is None:
            return
        planned = retry.planned(self.try_runner.done_by_retry(), clock.now())
        plan = reporting.plan_of(self.context, retry=planned, clear="start")
        try:
            known = reporting.pull_summary(self.context)
            if known:
                # It has waited for capacity after its execution had failed.
                known = known.model_copy(update={"capacity": None})
                reporting.push_plan(self.context, known, plan)
                return
            record = self.try_runner.record
            run = {
                "execution_arn": None,
                "pipeline_name": record and record.request.pipeline_name,
                "state": PolysyncState.FAILED.value,
                "next": plan.model_dump(mode="json"),
            }
            reporting.push_run(self.context, run)
        except Exception as problem:
            # The task fails with its own error.
            self.log.warning("The XCom run does not say what comes next: %s", problem)

    def _complete(
        self, end: ExecutionEvent, before: BeforeDeferral = NOTHING_BEFORE
    ) -> str | None:
        """
        Push the outcome of the execution, and return its ARN, or raise the error of the
        task.

        :return: None if the task begins again.
        """
        note = None
        is_own_stop = False
        refusal = None
        basis = self.try_runner.basis(end.execution_arn)
        if end.has_ended_by_itself:
            self.try_runner.release()
            reporting.count_end(end, self.task.polysync_conn_id)
        else:
            if end.outcome == "refused":
                # Its text follows when the report is complete.
                refusal = outcome.refusal_error(end, "")
            try_end = self.try_runner.finish(end, refusal)
            reporting.count_end(end, self.task.polysync_conn_id)
            if try_end.begins_again:
                return None
            note = try_end.text
            is_own_stop = try_end.is_own_stop
        report = self.report_end(end, basis, before)
        record = self._record_to_resume(end, report)
        if record:
            self._pause(record)
            return None
        arn = self.finish(
            end, report, note=note, is_own_stop=is_own_stop, refusal=refusal
        )
        self.forget()
        return arn

    def _record_to_resume(
        self, end: ExecutionEvent, report: results.StepReport
    ) -> ExecutionRecord | None:
        """
        Return the record of an execution that is resumed after a pause, since it has
        failed for want of capacity only; None if its end is that of the task.
        """
        error = self.make_error(end, "", is_own_stop=False)
        if not isinstance(error, exceptions.PipelineExecutionFailedError):
            return None
        reason = capacity.lacked_by([row.reason for row in report.failed])
        if reason is None:
            return None
        return self.try_runner.wait_for_capacity(end, reason)

    def forget(self) -> None:
        """Delete the record, because the task succeeds."""
        self.try_runner.forget_record()

    def following(
        self,
        end: ExecutionEvent,
        retry: plans.NextSession | None,
        *,
        by_fail_step: bool,
    ) -> Following:
        """Return what comes next after a failure, as the next try will decide."""
        record, status = self.try_runner.seen_by_next_try(end)
        options = self.try_options()
        text = decisions.next_step(
            record,
            status,
            options,
            retry,
            by_fail_step=by_fail_step,
            button=reporting.RESUME_BUTTON,
        )
        if status is None and self.known.summary:
            # The execution has not ended, and may have been stopped since.
            status = self.known.summary.status
        members = decisions.planned_after_failure(
            record, status, options, retry, clock.now(), by_fail_step=by_fail_step
        )
        return Following(text, reporting.plan_of(self.context, **members))

    def _summary_before(self, stored: object) -> outcome.RunSummary | None:
        """
        Return the XCom ``run`` from before the deferral; None if it cannot be read.

        :param stored: what Airflow has kept of it for this session; None to read it.
        """
        try:
            summary = outcome.parse_run_summary(stored, self.log.warning)
            return summary or reporting.pull_summary(self.context)
        except Exception as error:
            # The execution must still be stopped, if its time is up.
            self.log.warning(
                "Lineage cannot name the execution: the XCom run cannot be read: %s",
                error,
            )
            return None

    # ---- the waits

    def _pause(self, record: ExecutionRecord) -> None:
        """
        Wait until a request is sent that lacks capacity.

        A deferred task goes on in ``execute_after_pause``.
        """
        wait = record.capacity
        if wait is None:
            raise LookupError("the record has no wait for capacity")
        self.log.warning(
            "Waits for capacity since %s, and asks again at %s: %s",
            f"{wait.since:%Y-%m-%d %H:%M:%S} UTC",
            f"{wait.asks_at:%Y-%m-%d %H:%M:%S} UTC",
            wait.reason,
        )
        self._push_waiting(record, wait)
        pause = max(wait.asks_at - clock.now(), timedelta())
        if self.options.deferrable:
            self.task.defer(
                trigger=TimeDeltaTrigger(pause),
                method_name="execute_after_pause",
                timeout=trigger_timeout(clock.time() + pause.total_seconds()),
            )
        try:
            self.sleep(pause.total_seconds())
        except AirflowTaskTimeout as error:
            text = "execution_timeout has passed while the task waited for capacity: "
            raise AirflowTaskTimeout(f"{text}{wait.reason}") from error
        self.try_runner.kill.raise_if_requested()

    def _push_waiting(
        self, record: ExecutionRecord, wait: capacity.CapacityWait
    ) -> None:
        """Push ``run`` of a task that waits for capacity."""
        run: dict[str, Any] = {
            "execution_arn": record.execution_arn,
            "pipeline_name": record.request.pipeline_name,
            "state": outcome.WAITING,
        }
        members: dict[str, Any] = {"clear": "start"}
        summary = self.known.summary
        if summary:
            run = summary.model_dump(mode="json")
            members = decisions.planned_after_failure(
                record, summary.status, self.try_options(), None, clock.now()
            )
        members["until"] = wait.since + timedelta(seconds=self.timeout_seconds)
        plan = reporting.plan_of(self.context, **members)
        run["capacity"] = wait.model_dump(mode="json")
        run["next"] = plan.model_dump(mode="json")
        reporting.push_run(self.context, run)

    def wait_for_earlier_execution(self, instruction: Identified) -> ExecutionEvent:
        """
        Wait for the end of an execution that must not run beside a new one.

        A deferred task goes on in ``execute_after_end``.
        """
        record = instruction.record
        limit = None
        if not decisions.is_being_stopped(instruction):
            limit = self.try_runner.cost_limit(record, record.limit_of_attempt)
        waiter = self.make_waiter(
            instruction.arn,
            record.request.pipeline_name,
            cost_limit=limit,
            attempt=record.resumes,
        )
        stop_on_kill = self.options.stop_on_kill
        if self.try_options().stops_cleared:
            run = {
                "execution_arn": record.arn,
                "pipeline_name": record.request.pipeline_name,
                "state": outcome.STOPPING,
                "status": STATUS_STOPPING,
                "next": reporting.plan_of(self.context).model_dump(mode="json"),
            }
            reporting.push_run(self.context, run)
        policy = self.task.retry_policy
        arguments = replace(
            self.trigger_arguments(waiter),
            stop_on_kill=stop_on_kill,
            stop_at=ending.outcomes_to_stop_earlier_at(
                stop_on_kill=stop_on_kill,
                is_last_try=not may_run_again(policy, self.context),
                may_retry_refusal=may_retry_refusal(policy, self.context),
            ),
        )
        return self.wait_for_end(
            waiter,
            arguments,
            method_name="execute_after_end",
            timeout=trigger_timeout(waiter.deadline),
        )

    def _is_end_of_task(self, end: ExecutionEvent) -> bool:
        """
        Return whether the end of the wait for an earlier execution is that of the task:
        if it has cost too much, it is stopped, and no other one follows.

        :raises PolysyncError: the execution has not ended, for another reason.
        """
        if end.outcome != "too_expensive":
            reporting.raise_unless_ended(end)
            self.try_runner.forget_estimate()
            return False
        self._push_earlier(end.execution_arn, end.pipeline_name, resumes=end.attempt)
        return True

    def _wait_for_execution(self, instruction: Identified) -> ExecutionEvent:
        """
        Wait for the end of the execution on the worker, or defer the task, which then
        goes on in ``execute_complete``.
        """
        record = instruction.record
        limit = self.try_runner.cost_limit(
            record, partial(record.limit_in, instruction.task_try.epoch)
        )
        stop_on_kill = self.options.stop_on_kill
        if limit and not stop_on_kill:
            self.log.warning(
                "If the task ends before its execution, that goes on without max_cost,"
                " because of stop_on_kill=False."
            )
        reporter = self.step_reporter(instruction.arn, record.resumed_at)
        reporter.push_declared(record.request.selected_steps)
        waiter = self.make_waiter(
            instruction.arn,
            record.request.pipeline_name,
            cost_limit=limit,
            started_at=instruction.attempt_started_at,
            attempt=record.resumes,
        )
        if instruction.description and has_ended(instruction.description.status):
            result = waiter.decide(instruction.description, clock.time())
            if isinstance(result, Finish):
                return result.event
        self.try_runner.kill.raise_if_requested()
        run = None
        if self.known.summary:
            value = self.known.summary.model_dump(mode="json")
            run = texts.storable_xcom("run", value, self.log.debug)
        declared_steps = reporter.declared_steps
        arguments = replace(
            self.trigger_arguments(waiter).listing(self.list_seconds, declared_steps),
            stop_on_kill=stop_on_kill,
            job_logs=self.options.job_logs,
            stop_at=ending.outcomes_to_stop_at(
                stop_on_kill=stop_on_kill,
                may_retry_refusal=may_retry_refusal(
                    self.task.retry_policy, self.context
                ),
            ),
        )
        if self.options.job_logs:
            self._job_logs = RunningJobLogs(reporter.hook.call_logs, self.log.log)
        end = self.wait_for_end(
            waiter,
            arguments,
            kwargs={"started": {"run": run, "declared_steps": declared_steps}},
            timeout=trigger_timeout(waiter.deadline),
            after_poll=reporter.after_poll,
        )
        if self._job_logs and end.outcome == "ended":
            list_steps = reporter.hook.list_pipeline_execution_steps
            self._job_logs.read_last(partial(list_steps, instruction.arn))
        return end

    def estimate_of(
        self, waiter: ExecutionWaiter, hook: PolysyncSageMakerHook
    ) -> Estimate | None:
        """Return what estimates by a list of the steps what the task has spent."""
        if waiter.cost_limit is None:
            return None
        return self.try_runner.estimate(hook, waiter.cost_limit)

    @property
    def list_seconds(self) -> float | None:
        """Seconds between two lists of the steps; None for none."""
        seconds = self.options.progress_interval
        if seconds is None and has_limit(self._max_cost):
            # Only the deployment has a limit.
            return base.DEFAULT_PROGRESS_INTERVAL
        return seconds

    def sleep(
        self, seconds: float, listed: Sequence[StepDescription] | None = None
    ) -> None:
        """
        Wait on the worker, and end if the worker shuts down. Meanwhile, read the logs
        of jobs.
        """
        began_at = clock.monotonic()
        if self._job_logs and listed:
            self._job_logs.read(listed)
        self.try_runner.sleep(max(0.0, seconds - (clock.monotonic() - began_at)))
