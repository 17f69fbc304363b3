"""
Exports what Airflow has at other places, or not at all, in some versions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    MappedOperator,
    conf,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

if TYPE_CHECKING or CAPABILITIES.task_sdk:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk.exceptions import AirflowRescheduleException
else:
    from airflow.exceptions import AirflowRescheduleException
    from airflow.operators.empty import EmptyOperator

if TYPE_CHECKING or CAPABILITIES.retry_policy:
    from airflow.sdk import RetryAction, RetryDecision, RetryPolicy
else:
    # Here, the operators themselves ask their policy whether a failed task is retried.
    RetryAction = Enum(
        "RetryAction", {name: name.lower() for name in ("RETRY", "FAIL", "DEFAULT")}
    )

    @dataclass(frozen=True)
    class RetryDecision:
        action: RetryAction = RetryAction.DEFAULT
        reason: str | None = None

        @classmethod
        def fail(cls, reason: str | None = None) -> RetryDecision:
            return cls(RetryAction.FAIL, reason)

        @classmethod
        def default(cls) -> RetryDecision:
            return cls()

    class RetryPolicy(ABC):
        @abstractmethod
        def evaluate(
            self,
            exception: BaseException,
            try_number: int,
            max_tries: int,
            context: Any = None,
        ) -> RetryDecision: ...


def is_mapped(task: Any) -> bool:
    """
    Return whether a task is still mapped: not yet that of one map index.

    :param task: the ``task`` of a context.
    """
    return isinstance(task, MappedOperator)


# What the scheduler stores of a deferral that no trigger has ended in time
# (``check_trigger_timeouts`` in airflow/jobs/scheduler_job_runner.py).
_FAIL: Final = "__fail__"
TRIGGER_TIMEOUT: Final = (
    "Trigger timeout" if CAPABILITIES.task_sdk else "Trigger/execution timeout"
)


def is_trigger_timeout(method_name: str, arguments: Mapping[str, Any] | None) -> bool:
    """
    Return whether Airflow resumes a task because no trigger has ended its deferral in
    time.

    :param method_name: ``next_method`` of the task instance.
    :param arguments: ``next_kwargs`` of the task instance.
    """
    return method_name == _FAIL and (arguments or {}).get("error") == TRIGGER_TIMEOUT


def form_widget(field: Mapping[str, Any]) -> Any:
    """
    Return the form field for ``get_connection_form_widgets`` of a hook.

    https://airflow.apache.org/docs/apache-airflow/2.11.2/howto/connection.html

    :param field: a field of ``conn-fields`` of the provider information.
    """
    # Only Airflow 2 installs these packages. It accepts no other classes of fields than
    # these, so a choice is a text with a check.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import IntegerField, PasswordField, StringField
    from wtforms.validators import AnyOf, NumberRange, Optional

    schema = field["schema"]
    label = field["label"]
    texts = {"description": field["description"], "default": schema.get("default")}
    if "enum" in schema:
        choices = [value for value in schema["enum"] if value]
        texts["description"] += f" One of: {', '.join(choices)}."
        validators = [Optional(), AnyOf(choices)]
        return StringField(
            label, validators=validators, widget=BS3TextFieldWidget(), **texts
        )
    if schema.get("format") == "password":
        return PasswordField(label, widget=BS3PasswordFieldWidget(), **texts)
    if "minimum" in schema:
        limits = NumberRange(schema["minimum"], schema["maximum"])
        return IntegerField(
            label, validators=[Optional(), limits], widget=BS3TextFieldWidget(), **texts
        )
    return StringField(label, widget=BS3TextFieldWidget(), **texts)
