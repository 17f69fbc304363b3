"""Makes the start request of a task from its rendered arguments."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from polysync_airflow.execution.models import StartRequest
from polysync_airflow.execution.parameters import build_start_request, default_display_name

if TYPE_CHECKING:
    from airflow.sdk import Context


def build_request(task: Any, context: Context) -> StartRequest:
    """
    Return the request that starts a new execution for a task, with a new client request token.

    :param task: the ``PolysyncStartPipelineOperator``.
    :param context: its context.
    :raises ParametersError: an argument is not valid.
    """
    ti = context["ti"]
    key = (ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number)
    request = build_start_request(
        pipeline_name=task.pipeline_name,
        pipeline_parameters={} if task.pipeline_parameters is None else task.pipeline_parameters,
        execution_display_name=task.execution_display_name or default_display_name(*key),
        execution_description=task.execution_description or None,
        max_parallel_steps=task.max_parallel_steps,
        execution_role_arn=task.execution_role_arn,
        pipeline_version_id=task.pipeline_version_id,
        client_request_token=f"polysync-{uuid.uuid4()}",
    )
    if request.execution_role_arn is None and task.hook.credentials:
        role = task.hook.credentials.execution_role_arn
        request = request.model_copy(update={"execution_role_arn": role})
    task.hook.check_supported(request)
    return request
