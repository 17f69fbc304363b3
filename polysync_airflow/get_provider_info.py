"""The provider information that Airflow reads: modules, connection type, form fields and config options."""

from collections.abc import Mapping
from typing import Any

INTEGRATION = "Polysync for Amazon SageMaker"
DEFAULT_CONNECTION = "polysync_default"

# The config options (section, name) that say what a connection may name. The default of the folders is
# narrow: other folders beside these contain tokens, such as the API token of the cluster, and users who may
# edit connections must not be able to send those to another host.
CONFIG_SECTION = "polysync_sagemaker"
ALLOWED_IDENTITY_FOLDERS = (CONFIG_SECTION, "allowed_identity_folders")
ALLOWED_ENDPOINT_HOSTS = (CONFIG_SECTION, "allowed_endpoint_hosts")
ALLOWED_APPLICATIONS = (CONFIG_SECTION, "allowed_applications")
ACCEPT_UNSIGNED_RECORDS = (CONFIG_SECTION, "accept_unsigned_records")
DEFAULT_IDENTITY_FOLDERS = ",".join(
    (
        "/var/run/secrets/azure/tokens",
        "/var/run/secrets/eks.amazonaws.com/serviceaccount",
        "/var/run/secrets/polysync",
    )
)


def get_provider_info() -> dict[str, Any]:
    """
    Return the provider information for Airflow's ProvidersManager.

    ``package-name`` must be the name of the distribution; otherwise Airflow refuses the provider. The format
    is Airflow's ``provider_info.schema.json``.
    """
    return {
        "package-name": "polysync-airflow",
        "name": INTEGRATION,
        "description": "Start, wait for, stop and import Amazon SageMaker pipelines.",
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines.html",
                "tags": ["aws"],
            }
        ],
        "operators": [{"integration-name": INTEGRATION, "python-modules": ["polysync_airflow.operators"]}],
        "sensors": [{"integration-name": INTEGRATION, "python-modules": ["polysync_airflow.sensors"]}],
        "hooks": [{"integration-name": INTEGRATION, "python-modules": ["polysync_airflow.hooks"]}],
        "triggers": [
            {
                "integration-name": INTEGRATION,
                "python-modules": ["polysync_airflow.triggers", "polysync_airflow.events"],
            }
        ],
        "extra-links": [
            "polysync_airflow.links.PolysyncPipelineExecutionLink",
            "polysync_airflow.links.PolysyncStudioLink",
            "polysync_airflow.links.PolysyncFailedStepLogLink",
        ],
        "connection-types": [_connection_type()],
        "config": _config(),
    }


def _config() -> dict[str, Any]:
    options = {
        ALLOWED_IDENTITY_FOLDERS: _option(
            "Folders, separated by commas, in which a connection may name files: projected tokens, "
            "certificates, certificate authorities. Symbolic links are resolved before the check.",
            example=DEFAULT_IDENTITY_FOLDERS,
            default=DEFAULT_IDENTITY_FOLDERS,
        ),
        ALLOWED_ENDPOINT_HOSTS: _option(
            "Host names, separated by commas, that a connection may name in endpoint_url and "
            "sts_endpoint_url, besides the endpoints of AWS and this machine. *.example.com allows all "
            "hosts of a domain.",
            example="sagemaker.example.com,*.vpce.example.com",
        ),
        ALLOWED_APPLICATIONS: _option(
            "Entra ID applications, separated by commas, that a connection may name in application_id_uri, "
            "besides api://..., sts.amazonaws.com and urn:amazon:webservices.",
            example="https://polysync.example.com",
        ),
        ACCEPT_UNSIGNED_RECORDS: _option(
            "Whether a retry believes a record of an execution that has no signature. Set it while tasks "
            "that an earlier version started are running. Without a [core] fernet_key, such records are "
            "always believed.",
            example="True",
            default="False",
            type_="boolean",
        ),
    }
    return {
        CONFIG_SECTION: {
            "description": "Settings of Polysync for Amazon SageMaker.",
            "options": {name: option for (_, name), option in options.items()},
        }
    }


def _option(description: str, *, example: str, default: str = "", type_: str = "string") -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": type_,
        "example": example,
        "default": default,
    }


def _choice(label: str, description: str, *, default: str | None = None, **choices: str) -> dict[str, Any]:
    # The UI shows the texts of ``values_display`` in place of the values. It would show None as "null".
    schema: dict[str, Any]
    if default:
        schema = {"type": "string", "enum": [*choices], "values_display": choices, "default": default}
    else:
        labels = {**choices, "null": "not used"}
        schema = {"type": ["string", "null"], "enum": [*choices, None], "values_display": labels}
    return {"label": label, "schema": schema, "description": description}


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "schema": {"type": ["string", "null"], **schema}, "description": description}


def _in_section(title: str, fields: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    # The UI shows the fields of a section under its title, and before them those without one under its own.
    return {
        name: {**field, "schema": {**field["schema"], "section": title}} for name, field in fields.items()
    }


def _main_fields() -> dict[str, Any]:
    return {
        "auth_method": _choice(
            "Authentication method",
            "Web Identity: a token instead of a long-lived secret; see the section Web Identity below. "
            "Access Key: the key under Standard Fields. Assume Role: that key, and a role that it may "
            "assume. Instance Profile: the credentials of the EC2, ECS or EKS host.",
            web_identity="Web Identity (recommended)",
            access_key="Access Key",
            assume_role="Assume Role",
            instance_profile="Instance Profile",
            default="web_identity",
        ),
        "region_name": {
            "label": "AWS region",
            "schema": {"type": "string", "minLength": 1},
            "description": "For example eu-central-1. The region_name of an operator overrides it.",
        },
        "role_arn": _text(
            "Role ARN",
            "The role to sign in as, arn:aws:iam::...:role/.... Required for Web Identity and Assume Role, "
            "optional for Instance Profile.",
        ),
    }


def _other_methods_fields() -> dict[str, Any]:
    return {
        "external_id": _text(
            "External ID", "Assume Role, Instance Profile: if the role's trust policy requires one."
        ),
        "session_token": _text("Session token", "Access Key: only with temporary keys.", format="password"),
    }


def _web_identity_fields() -> dict[str, Any]:
    return {
        "identity_source": _choice(
            "Token source",
            "Where the token comes from. Required for Web Identity.",
            entra="Microsoft Entra ID",
            file="File",
        ),
        "identity_file": _text(
            "Token file", "File: path of the projected token, in a folder that the deployment allows."
        ),
        "entra_credential": _choice(
            "Entra ID credential",
            "Microsoft Entra ID: how this host, or an app registration, authenticates.",
            managed_identity="Managed identity",
            workload_identity="Workload identity (AKS)",
            client_secret="Client secret",  # noqa: S106 # a label
            client_certificate="Client certificate",
        ),
        "application_id_uri": _text(
            "Entra ID application",
            "Microsoft Entra ID: the application (or scope) for which the token is issued, such as "
            "api://polysync-aws.",
        ),
        "tenant_id": _text(
            "Entra ID tenant",
            "Client secret, Client certificate: directory (tenant) ID. Workload identity: only if AKS does "
            "not provide it.",
        ),
        "client_id": _text(
            "Entra ID client",
            "Client secret, Client certificate: application (client) ID. Workload identity: only if AKS "
            "does not provide it. Managed identity: only if it is user-assigned.",
        ),
        "client_secret": _text(
            "Entra ID client secret", "Client secret: the value of the secret, not its ID.", format="password"
        ),
        "client_certificate": _text(
            "Entra ID certificate",
            "Client certificate: path of a PEM or PKCS12 file with its private key, in an allowed folder.",
        ),
        "federated_identity_file": _text(
            "Service account token", "Workload identity: path, if it is not the token that AKS projects."
        ),
    }


def _options() -> dict[str, Any]:
    return {
        "session_name": _text(
            "Session name", "The name of the role session in CloudTrail. Empty: polysync-airflow."
        ),
        "duration_seconds": {
            "label": "Session duration",
            "schema": {"type": ["integer", "null"], "minimum": 900, "maximum": 43200},
            "description": "Duration of the role session: 900 to 43200 seconds. The session is refreshed "
            "before it expires. Empty: one hour.",
        },
        "execution_role_arn": _text(
            "Default execution role ARN", "The role of an execution, if the operator names none."
        ),
        "studio_domain_id": _text(
            "Studio domain ID",
            "The domain of SageMaker Studio, such as d-abcdefghijkl. With it, tasks have a button to Studio.",
        ),
        "endpoint_url": _text("SageMaker endpoint URL", "Only for your own VPC endpoint, or the emulator."),
        "sts_endpoint_url": _text("STS endpoint URL", "Only for your own VPC endpoint, or the emulator."),
        "verify": _text(
            "Verify TLS",
            "true, false, or the path of a file with certificate authorities, in an allowed folder. "
            "Empty: true.",
            examples=["true", "false"],
        ),
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "polysync_sagemaker",
        "hook-class-name": "polysync_airflow.hooks.PolysyncSageMakerHook",
        "hook-name": "Polysync SageMaker",
        "conn-fields": {
            **_main_fields(),
            **_in_section("Web Identity", _web_identity_fields()),
            **_in_section("Other methods", _other_methods_fields()),
            **_in_section("Options", _options()),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["host", "schema", "port", "extra"],
            "relabeling": {"login": "Access key ID", "password": "Secret access key"},
            # The UI always shows these two fields first.
            "placeholders": {
                "login": "Empty for Web Identity (recommended): see Extra Fields below",
                "password": "Only for Access Key and Assume Role",
            },
        },
    }
