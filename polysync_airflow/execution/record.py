"""The record of a task's execution, which its tries share. Users can edit it in Airflow."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from polysync_airflow.execution.models import STRICT, ExecutionArn, RequestToken, StartRequest, UtcTime


class Incarnation(BaseModel):
    """
    What tells a task instance from an earlier one with the same DAG, run id, task and map index.

    A DAG run that was deleted may come again under its run id, and the passes of a loop have the same key.

    :param dag_run_started_at: when the DAG run started. Clearing a DAG run that has ended changes it, too.
    :param clear_number: how often the DAG run was cleared.
    :param region: the pass of the loop or of the expansion, from Airflow 3.4 on; None outside of them.
    """

    model_config = STRICT

    dag_run_started_at: UtcTime | None = None
    clear_number: Annotated[int, Field(ge=0)] = 0
    region: Annotated[str, StringConstraints(max_length=100)] | None = None


# What a cleared task does if its execution has failed.
OnClear = Literal["new", "resume"]


class ClearChoice(BaseModel):
    """
    What a user chose for one clear of the task. It counts in place of the operator's ``on_clear``.

    :param epoch: the epoch that this clear has begun; None until its first try has begun.
    """

    model_config = STRICT

    on_clear: OnClear
    epoch: Annotated[int, Field(ge=0)] | None = None


# That of a record which was written for another incarnation of the task instance.
NO_EPOCH: Final = -1


class StoredExecution(BaseModel):
    """
    The record that the tries of a task share in a Variable of Airflow, where users can edit it.

    :param epoch: ``max_tries`` of the tries that the record belongs to; clearing the task begins a new epoch.
    :param incarnation: that of the task instance that wrote the record; None if an earlier version did.
    :param region_name: AWS region to which the start request was sent.
    :param request: the start request, with its client request token.
    :param execution_arn: ARN of the execution; None until AWS has responded.
    :param resumes: number of resumes that were requested.
    :param resume_token: client request token of the last resume; None before the first one.
    :param resumed_at: when AWS accepted the last resume; None until AWS has responded.
    :param try_number: the try that wrote the record last; 0 in records of an earlier version.
    :param stop_requested_by: the try that has asked AWS to stop this attempt of the execution; None if no try
        has.
    :param replaced_by_epoch: the epoch whose tries wait for the end of this execution, to start a new one in
        its place; None if no epoch does.
    :param clear_choice: what a user chose for the clear that follows, or that began this epoch; None for
        ``on_clear``. An earlier version refuses a record that has it.
    """

    model_config = STRICT

    version: Literal[1] = 1
    epoch: Annotated[int, Field(ge=NO_EPOCH)]
    incarnation: Incarnation | None = None
    region_name: Annotated[str, StringConstraints(min_length=1)]
    request: StartRequest
    execution_arn: ExecutionArn | None = None
    resumes: Annotated[int, Field(ge=0)] = 0
    resume_token: RequestToken | None = None
    resumed_at: UtcTime | None = None
    try_number: Annotated[int, Field(ge=0)] = 0
    stop_requested_by: Annotated[int, Field(ge=0)] | None = None
    replaced_by_epoch: Annotated[int, Field(ge=0)] | None = None
    clear_choice: ClearChoice | None = None

    @model_validator(mode="after")
    def _resumes_have_a_token(self) -> StoredExecution:
        # The number of resumes is part of a stop's client token. With a wrong number, AWS would take the stop
        # for one that it has already made.
        if (self.resumes == 0) != (self.resume_token is None):
            raise ValueError("resume_token must be set if resumes is not 0, and only then")
        return self

    def choice_in(self, epoch: int) -> ClearChoice | None:
        """
        Return what a user chose for the clear that began an epoch; None if nobody has.

        The first try after a choice is that of its clear: a choice is stored only after the end of the task.
        """
        choice = self.clear_choice
        if choice is None or choice.epoch not in (None, epoch):
            return None
        return choice.model_copy(update={"epoch": epoch})

    def with_choice_of(self, stored: StoredExecution | None) -> StoredExecution:
        """
        Return the record with what a user has chosen meanwhile: the choice is kept in the stored record only.

        If another try has begun the epoch of its clear, it has used the choice up; this one still has it.

        :param stored: the record in the store; None if there is none.
        """
        if stored is None or stored.incarnation != self.incarnation:
            return self
        choice = stored.clear_choice
        is_of_next_clear = choice is not None and choice.epoch is None
        if not is_of_next_clear and stored.epoch != self.epoch:
            return self
        return self.model_copy(update={"clear_choice": choice})

    def without_values(self) -> StoredExecution:
        """
        Return the record as it is stored: once the ARN is known, no try needs the values of the parameters.

        Whoever may read Variables would see them.
        """
        if self.execution_arn is None:
            return self
        request = self.request.model_copy(update={"pipeline_parameters": {}})
        return self.model_copy(update={"request": request})

    @property
    def arn(self) -> str:
        """
        The ARN of the execution.

        :raises LookupError: AWS has not responded to the start request yet.
        """
        if self.execution_arn is None:
            raise LookupError("the ARN of the execution is not known yet")
        return self.execution_arn

    @property
    def resume_is_pending(self) -> bool:
        """Whether a resume was requested to which AWS has not responded."""
        return self.resume_token is not None and self.resumed_at is None
