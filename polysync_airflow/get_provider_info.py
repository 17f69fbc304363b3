"""Owns what Airflow is told about this provider: its classes, connection type and form fields."""

from collections.abc import Mapping
from typing import Any

INTEGRATION = "Polysync for Amazon SageMaker"

# Where a connection may name files. Narrow by default: next to these lie tokens, such as the cluster's own
# API token, that an editor of connections must not be able to send anywhere.
ALLOWED_IDENTITY_FOLDERS = ("polysync_sagemaker", "allowed_identity_folders")
DEFAULT_IDENTITY_FOLDERS = ",".join(
    (
        "/var/run/secrets/azure/tokens",
        "/var/run/secrets/eks.amazonaws.com/serviceaccount",
        "/var/run/secrets/polysync",
    )
)


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
        "config": _config(),
    }


def _config() -> dict[str, Any]:
    section, option = ALLOWED_IDENTITY_FOLDERS
    return {
        section: {
            "description": "Settings of Polysync for Amazon SageMaker.",
            "options": {
                option: {
                    "description": (
                        "Folders, separated by commas, under which a connection may name files: projected "
                        "tokens, certificates, certificate authorities. Symbolic links are followed first."
                    ),
                    "version_added": "0.1.0",
                    "type": "string",
                    "example": DEFAULT_IDENTITY_FOLDERS,
                    "default": DEFAULT_IDENTITY_FOLDERS,
                }
            },
        }
    }


def _choice(label: str, description: str, *, default: str | None = None, **choices: str) -> dict[str, Any]:
    # ``values_display`` is what the UI shows instead of a value; it would show the absent one as "null".
    shown = choices if default else {**choices, "null": "not used"}
    values = list(choices) if default else [*choices, None]
    kind: Any = "string" if default else ["string", "null"]
    schema = {
        "type": kind,
        "enum": values,
        "values_display": shown,
        **({"default": default} if default else {}),
    }
    return {"label": label, "schema": schema, "description": description}


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "schema": {"type": ["string", "null"], **schema}, "description": description}


def _in_section(title: str, fields: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    # The UI folds the fields of a section under its title; those of none stand under "Extra Fields".
    return {
        name: {**field, "schema": {**field["schema"], "section": title}} for name, field in fields.items()
    }


def _fields() -> dict[str, Any]:
    return {
        **_main_fields(),
        **_in_section("Web Identity", _web_identity_fields()),
        **_in_section("Options", _options()),
    }


def _main_fields() -> dict[str, Any]:
    return {
        "auth_method": _choice(
            "Authentication method",
            "Web Identity: a token instead of a long-lived secret; see the section Web Identity below. "
            "Access Key: the key under Standard Fields. Assume Role: that key, and a role it may assume. "
            "Instance Profile: what the EC2, ECS or EKS host has.",
            web_identity="Web Identity (recommended)",
            access_key="Access Key",
            assume_role="Assume Role",
            instance_profile="Instance Profile",
            default="access_key",
        ),
        "region_name": {
            "label": "AWS region",
            "schema": {"type": "string", "minLength": 1},
            "description": "For example eu-central-1. An operator's region_name goes before it.",
        },
        "role_arn": _text(
            "Role ARN",
            "The role to sign in as, arn:aws:iam::...:role/.... Needed by Web Identity and Assume Role, "
            "possible with Instance Profile.",
        ),
        "external_id": _text(
            "External ID", "Assume Role, Instance Profile: if the role's trust policy asks for one."
        ),
        "session_token": _text("Session token", "Access Key: only with temporary keys.", format="password"),
    }


def _web_identity_fields() -> dict[str, Any]:
    return {
        "identity_source": _choice(
            "Token source",
            "Where the token comes from. Needed by Web Identity.",
            entra="Microsoft Entra ID",
            file="File",
        ),
        "identity_file": _text(
            "Token file", "File: path of the projected token, under a folder that the deployment allows."
        ),
        "entra_credential": _choice(
            "Entra ID credential",
            "Microsoft Entra ID: how this host, or an app registration, proves that it is itself.",
            managed_identity="Managed identity",
            workload_identity="Workload identity (AKS)",
            client_secret="Client secret",  # noqa: S106 # a label
            client_certificate="Client certificate",
        ),
        "application_id_uri": _text(
            "Entra ID application",
            "Microsoft Entra ID: the application (or scope) that the token is for, such as api://polysync-aws.",
        ),
        "tenant_id": _text(
            "Entra ID tenant",
            "Client secret, Client certificate: directory (tenant) ID. Workload identity: if AKS tells none.",
        ),
        "client_id": _text(
            "Entra ID client",
            "The same: application (client) ID. Managed identity: only of a user-assigned one.",
        ),
        "client_secret": _text(
            "Entra ID client secret", "Client secret: its value, not its ID.", format="password"
        ),
        "client_certificate": _text(
            "Entra ID certificate",
            "Client certificate: path of a PEM or PKCS12 file with its private key, under an allowed folder.",
        ),
        "federated_identity_file": _text(
            "Service account token", "Workload identity: path, if it is not the one that AKS projects."
        ),
    }


def _options() -> dict[str, Any]:
    return {
        "session_name": _text(
            "Session name", "How CloudTrail shows the role's session. Empty: polysync-airflow."
        ),
        "duration_seconds": {
            "label": "Session duration",
            "schema": {"type": ["integer", "null"], "minimum": 900, "maximum": 43200},
            "description": "Of the role's session: 900 to 43200 seconds; it is renewed before its end. "
            "Empty: one hour.",
        },
        "execution_role_arn": _text(
            "Default execution role ARN", "The role an execution runs under, where the operator names none."
        ),
        "endpoint_url": _text(
            "SageMaker endpoint URL", "Only for a VPC endpoint of your own, or the emulator."
        ),
        "sts_endpoint_url": _text(
            "STS endpoint URL", "Only for a VPC endpoint of your own, or the emulator."
        ),
        "verify": _text(
            "Verify TLS",
            "true, false, or the path of a file of authorities, under an allowed folder. Empty: true.",
            examples=["true", "false"],
        ),
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "polysync_sagemaker",
        "hook-class-name": "polysync_airflow.hooks.PolysyncSageMakerHook",
        "hook-name": "Polysync SageMaker",
        "conn-fields": _fields(),
        "ui-field-behaviour": {
            "hidden-fields": ["host", "schema", "port", "extra"],
            "relabeling": {"login": "Access key ID", "password": "Secret access key"},
            "placeholders": {
                "login": "AKIA...; only for Access Key and Assume Role. How to sign in: Extra Fields"
            },
        },
    }
