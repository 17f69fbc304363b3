"""Owns what Airflow is told about this provider: its classes, connection type and form fields."""

from typing import Any

INTEGRATION = "Polysync for Amazon SageMaker"


def get_provider_info() -> dict[str, Any]:
    """
    Describe the provider to Airflow's ProvidersManager.

    ``package-name`` must equal the distribution's name: Airflow refuses the provider otherwise.
    Format: Airflow's ``provider_info.schema.json``.
    """
    return {
        "package-name": "polysync-airflow",
        "name": INTEGRATION,
        "description": "Start, watch, stop and import Amazon SageMaker pipelines.",
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines.html",
                "tags": ["aws"],
            }
        ],
        "operators": [{"integration-name": INTEGRATION, "python-modules": ["polysync_airflow.operators"]}],
        "hooks": [{"integration-name": INTEGRATION, "python-modules": ["polysync_airflow.hooks"]}],
        "triggers": [{"integration-name": INTEGRATION, "python-modules": ["polysync_airflow.triggers"]}],
        "extra-links": ["polysync_airflow.links.PolysyncPipelineExecutionLink"],
        "connection-types": [_connection_type()],
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "polysync_sagemaker",
        "hook-class-name": "polysync_airflow.hooks.PolysyncSageMakerHook",
        "hook-name": "Polysync SageMaker",
        "conn-fields": {
            "auth_method": {
                "label": "Authentication method",
                "schema": {"type": "string", "enum": ["access_key"], "default": "access_key"},
                "description": "How to sign in to AWS.",
            },
            "region_name": {
                "label": "AWS region",
                "schema": {"type": "string", "minLength": 1},
                "description": "For example eu-central-1. An operator's region_name goes before it.",
            },
            "session_token": {
                "label": "Session token",
                "schema": {"type": ["string", "null"], "format": "password"},
                "description": "Only with temporary access keys.",
            },
            "execution_role_arn": {
                "label": "Default execution role ARN",
                "schema": {"type": ["string", "null"]},
                "description": "The role an execution runs under, where the operator names none.",
            },
            "endpoint_url": {
                "label": "Endpoint URL",
                "schema": {"type": ["string", "null"]},
                "description": "Only for VPC endpoints of your own or a local emulator.",
            },
        },
        "ui-field-behaviour": {
            "hidden-fields": ["host", "schema", "port", "extra"],
            "relabeling": {"login": "Access key ID", "password": "Secret access key"},
            "placeholders": {"login": "AKIA..."},
        },
    }
