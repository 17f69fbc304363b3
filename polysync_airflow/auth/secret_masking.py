"""Registers temporary secrets with Airflow's secrets masker, which replaces them in log lines by ``***``."""

from __future__ import annotations

import logging

from polysync_airflow.airflow_compat.supervisor import mask_secret


def mask_temporary_secrets(*secrets: str | None) -> None:
    """
    Mask secrets that botocore may write to its debug log, such as the session token of a signed request.

    Only if that log is enabled: the masker keeps every secret for ever, and each refresh brings new ones.

    :param secrets: the secrets; None and empty ones are ignored.
    """
    if logging.getLogger("botocore").isEnabledFor(logging.DEBUG):
        for secret in secrets:
            if secret:
                mask_secret(secret)
