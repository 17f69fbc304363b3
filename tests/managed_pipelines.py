"""The pipeline of the emulator that AWS manages."""

from __future__ import annotations

from typing import Any, Final

import boto3
import pytest

#: Its ARN, which has ``aws`` in place of an account. Its name alone is that of a pipeline of the account.
MANAGED: Final = "arn:aws:sagemaker:us-east-1:aws:pipeline/model-eval"
ROLE: Final = "arn:aws:iam::123456789012:role/Evaluation"
MODEL: Final = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"
#: The arguments of a task that starts it.
START_MANAGED: Final[dict[str, Any]] = {
    "pipeline_name": MANAGED,
    "pipeline_parameters": {"ModelPackageArn": MODEL},
    "execution_role_arn": ROLE,
}
NEVER_ENDS: Final = {"steps": {"Evaluate": {"duration": None}}}

_CLIENT: Any = boto3.client("sagemaker", region_name="us-east-1")
_MEMBERS = _CLIENT.meta.service_model.operation_model(
    "StartPipelineExecution"
).input_shape.members
NEEDS_ROLE: Final = pytest.mark.skipif(
    "RoleArn" not in _MEMBERS, reason="this botocore cannot name a role"
)
