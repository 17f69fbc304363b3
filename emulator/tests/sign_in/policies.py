"""Policies of IAM, and the errors that AWS returns because of them."""

from __future__ import annotations

import json
from typing import Any

from tests.sign_in.test_sts import ACCOUNT

PIPELINES = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline"
USER = f"arn:aws:iam::{ACCOUNT}:user/airflow"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"


def statement(
    action: Any, resource: Any = "*", effect: str = "Allow", **more: Any
) -> dict[str, Any]:
    """Return a statement of an identity-based policy."""
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def document(*statements: dict[str, Any]) -> str:
    """Return the text of a policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def access_denied(action: str, resource: str, caller: str = USER) -> tuple[str, str]:
    """Return AWS's error for an action that no policy allows."""
    text = f"User: {caller} is not authorized to perform: {action} on resource: {resource} "
    return (
        "AccessDeniedException",
        f"{text}because no identity-based policy allows the {action} action",
    )
