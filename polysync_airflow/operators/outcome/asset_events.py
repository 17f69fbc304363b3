"""What the asset events of a Start task say about its execution, for the DAGs that these assets schedule."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.airflow_compat.task_instances import outlet_event_extras
from polysync_airflow.execution.console import execution_url

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

MAX_MODEL_PACKAGES: Final = 100
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageSummary.html
_MODEL_PACKAGE_ARN: Final = re.compile(
    r"arn:aws[a-z-]{0,20}:sagemaker:[a-z0-9-]{1,32}:[0-9]{12}:model-package/[!-~]{1,2048}"
)


def execution_extra(
    execution_arn: str, pipeline_name: str | None, *, model_package_arns: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Return what an asset event says about an execution: ``execution_arn``, ``console_url`` and
    ``model_package_arns``. Members without a value are left out.

    :param pipeline_name: name or ARN of its pipeline; None if it is not known.
    :param model_package_arns: the model packages that the execution registered, at most 100. What is not
        the ARN of a model package is left out.
    """
    arns = dict.fromkeys(
        arn for arn in model_package_arns if isinstance(arn, str) and _MODEL_PACKAGE_ARN.fullmatch(arn)
    )
    extra = {
        "execution_arn": execution_arn,
        "console_url": execution_url(execution_arn, pipeline_name) if pipeline_name else None,
        # Stored as a JSON list. Airflow 2 fails a task if the extra of an alias holds a list, which cannot be
        # hashed.
        "model_package_arns": tuple(arns)[:MAX_MODEL_PACKAGES],
    }
    return {name: value for name, value in extra.items() if value}


def attach_to_outlets(context: Context, outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """
    Add an extra to the asset events of a task. Raises no error: the execution has been paid.

    :param extra: JSON-able values by name; other members that the extra has already are kept.
    """
    for outlet in outlets:
        try:
            for event_extra in outlet_event_extras(context, outlet):
                event_extra.update(extra)
        except Exception as error:
            # For example, Airflow does not know the asset to which an Asset.ref() refers.
            log.warning("The asset event of outlet %.200r does not name the execution: %s", outlet, error)
