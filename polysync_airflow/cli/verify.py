"""
Signs in with an Airflow connection for ``polysync verify``.

The command is one of sagemaker-pipelines-emulator. It finds ``sign_in`` by its entry
point, and imports nothing else of the provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.cli.output import airflow_in_use
from polysync_airflow.execution.console import execution_url, log_url

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook


def sign_in(connection_id: str, region: str | None, config: Any) -> dict[str, Any]:
    """
    Sign in with an Airflow connection.

    :param region: the AWS region; None for that of the connection.
    :param config: botocore's settings for the clients.
    :return: what ``sagemaker_emulator.verify.session.Session`` has.
    :raises ValueError: nobody can sign in with it.
    """
    with airflow_in_use(connection_id):
        from polysync_airflow.exceptions import PolysyncError
        from polysync_airflow.hooks import PolysyncSageMakerHook

        class Hook(PolysyncSageMakerHook):
            report_config = config

            def client(self, service: str) -> Any:
                if service == "sagemaker":
                    return self._signed_in_client
                return self._report_client(service)

        hook = Hook(connection_id, region, config=config)
        try:
            identity = hook.get_caller_identity()
        except PolysyncError as error:
            raise ValueError(str(error)) from None

    def permissions(of_region: str) -> list[tuple[str, str]]:
        policy = identity_policy(
            account=identity["Account"],
            region=of_region,
            partition=identity["Arn"].split(":")[1],
        )
        return [
            (action, resource)
            for statement in policy["Statement"]
            for action in statement["Action"]
            for resource in statement["Resource"]
        ]

    return {
        "client": hook.client,
        "identity": identity,
        "secrets": _secrets(hook),
        "description": hook.auth_description,
        "permissions": permissions,
        "execution_link": execution_url,
        "log_link": log_url,
    }


def _secrets(hook: PolysyncSageMakerHook) -> list[str]:
    """Return the texts of the connection that nobody must see."""
    if hook.credentials:
        return list(hook.credentials.secrets)
    settings = hook.conn_config
    secrets = [settings.aws_secret_access_key, settings.aws_session_token]
    return [secret for secret in secrets if secret]
