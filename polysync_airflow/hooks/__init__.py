"""
The hook for Amazon SageMaker Pipelines: one method for each AWS operation, which takes
and returns models.

``auth/base_hook.py`` has the connection and the sign-in, ``aws/responses.py`` the
errors. ``executions`` has pipelines, executions with their stop, model packages, and
what all calls have in common; ``callbacks`` has the callback steps and their queues;
``jobs`` has the jobs of steps, and ``put_pipeline`` makes pipelines.
"""

from __future__ import annotations

from typing import Any

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import form_widget
from polysync_airflow.auth import iam_policies
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.hooks.callbacks import CallbackMethods
from polysync_airflow.hooks.executions import (
    ExecutionMethods,
    ModelPackageMethods,
    PipelineMethods,
)
from polysync_airflow.hooks.jobs import JobMethods
from polysync_airflow.hooks.put_pipeline import PutPipelineMethods


class PolysyncSageMakerHook(
    ExecutionMethods,
    PipelineMethods,
    PutPipelineMethods,
    JobMethods,
    CallbackMethods,
    ModelPackageMethods,
):
    """
    Interact with Amazon SageMaker Pipelines.

    With a connection of type ``aws``, the hook of the amazon provider signs in.

    :param polysync_conn_id: id of an Airflow connection of type ``polysync_sagemaker``
        or ``aws``.
    :param region_name: AWS region; overrides the region of the connection.
    :param config: botocore settings; each overrides the setting of the connection.
    """

    # Airflow 2 looks for these methods in this class only, not in its base classes.
    # Later versions do not need them, and do not install the packages that make
    # widgets.
    if not CAPABILITIES.form_from_provider_info:

        @classmethod
        def get_connection_form_widgets(cls) -> dict[str, Any]:
            """Return the fields of the connection form."""
            fields = get_provider_info()["connection-types"][0]["conn-fields"]
            return {name: form_widget(field) for name, field in fields.items()}

        @classmethod
        def get_ui_field_behaviour(cls) -> dict[str, Any]:
            """
            Return which standard fields the form hides, and how it labels the others.
            """
            behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
            return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def test_connection(self) -> tuple[bool, str]:
        """
        Test the connection. The button "Test" of the connection form calls this method.

        :return: whether the connection can be used, and a report about its identity and
            permissions.
        """
        try:
            return iam_policies.connection_report(self)
        except PolysyncError as error:
            return False, str(error)
