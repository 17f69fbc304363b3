"""Owns what Airflow is told about this provider: its classes, connection type and form fields."""

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


def _choice(label: str, *values: str, description: str, default: str | None = None) -> dict[str, Any]:
    kind: Any = "string" if default else ["string", "null"]
    choices: list[str | None] = list(values) if default else [*values, None]
    schema = {"type": kind, "enum": choices, **({"default": default} if default else {})}
    return {"label": label, "schema": schema, "description": description}


def _text(label: str, description: str, *, secret: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"], **({"format": "password"} if secret else {})}
    return {"label": label, "schema": schema, "description": description}


def _fields() -> dict[str, Any]:
    # In the order of the form. Only the first two are required in every way to sign in.
    return {
        "auth_method": _choice(
            "Authentication method",
            "web_identity",
            "access_key",
            "assume_role",
            "instance_profile",
            default="access_key",
            description="web_identity: a token of Microsoft Entra ID or a file, no long-lived secret "
            "(recommended). access_key: the two standard fields. assume_role: these, and a role. "
            "instance_profile: the host's own.",
        ),
        "region_name": {
            "label": "AWS region",
            "schema": {"type": "string", "minLength": 1},
            "description": "For example eu-central-1. An operator's region_name goes before it.",
        },
        "role_arn": _text("Role ARN", "The role to sign in as. Not with access_key."),
        "token_source": _choice(
            "Token source", "entra", "file", description="Only web_identity: who issues the token."
        ),
        "entra_credential": _choice(
            "Entra ID credential",
            "managed_identity",
            "workload_identity",
            "client_secret",
            "client_certificate",
            description="Only token source entra: how the identity proves itself to Microsoft.",
        ),
        "application_id_uri": _text(
            "Entra ID application", "Only entra: the application (or scope) that the token is for: api://..."
        ),
        "tenant_id": _text("Entra ID tenant", "Only entra. A managed identity's host knows it."),
        "client_id": _text("Entra ID client", "Only entra. None: the system-assigned identity."),
        "client_secret": _text("Entra ID client secret", "Only client_secret.", secret=True),
        "client_certificate": _text(
            "Entra ID certificate", "Only client_certificate: path of PEM or PKCS12."
        ),
        "federated_token_file": _text(
            "Service account token", "Only workload_identity; None: the projected one."
        ),
        "token_file": _text("Token file", "Only token source file: path, under an allowed folder."),
        "session_token": _text("Session token", "Only access_key, with temporary keys.", secret=True),
        "external_id": _text("External ID", "Only if the role's trust policy asks for it."),
        "session_name": _text("Session name", "As CloudTrail shows it. Default: polysync-airflow."),
        "duration_seconds": {
            "label": "Session duration",
            "schema": {"type": ["integer", "null"], "minimum": 900, "maximum": 43200},
            "description": "Seconds, 900 to 43,200. Default: one hour. Sessions are renewed before they end.",
        },
        "execution_role_arn": _text(
            "Default execution role ARN", "The role an execution runs under, where the operator names none."
        ),
        "endpoint_url": _text("SageMaker endpoint URL", "Only for VPC endpoints of your own or an emulator."),
        "sts_endpoint_url": _text("STS endpoint URL", "Only for VPC endpoints of your own or an emulator."),
        "verify": _text("Verify TLS", "true (default), false, or the path of a file of authorities."),
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
            "placeholders": {"login": "AKIA... (access_key and assume_role)"},
        },
    }
