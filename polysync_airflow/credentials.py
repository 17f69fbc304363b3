"""Owns the ways to sign in: a connection's content, checked, to one boto3 session. Knows no Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import boto3
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, TypeAdapter, ValidationError

from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.models import RoleArn


class AccessKeyCredentials(BaseModel):
    """
    Sign in with an access key of an IAM user, or with temporary keys and their session token.

    :param region_name: AWS region, such as ``eu-central-1``.
    :param access_key_id: the connection's login.
    :param secret_access_key: the connection's password.
    :param session_token: only with temporary keys.
    :param execution_role_arn: role for executions whose start names none.
    :param endpoint_url: only for VPC endpoints of one's own or an emulator.
    """

    # Connection editors are trusted less than DAG authors: what is not named here is refused.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    auth_method: Literal["access_key"]
    region_name: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,}(-[a-z]+)+-\d+$")]
    access_key_id: Annotated[str, StringConstraints(min_length=16, max_length=128, pattern=r"^\w+$")]
    secret_access_key: Annotated[SecretStr, Field(min_length=1)]
    session_token: SecretStr | None = None
    execution_role_arn: RoleArn | None = None
    endpoint_url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None

    @property
    def secrets(self) -> list[str]:
        """What must not appear in any log."""
        held = (self.secret_access_key, self.session_token)
        return [secret.get_secret_value() for secret in held if secret]

    def session(self) -> boto3.session.Session:
        """Make a boto3 session that uses these credentials and no others."""
        return boto3.session.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key.get_secret_value(),
            aws_session_token=self.session_token.get_secret_value() if self.session_token else None,
            region_name=self.region_name,
        )


# Widened to a union discriminated by auth_method as modes are added.
Credentials = AccessKeyCredentials
_CREDENTIALS: TypeAdapter[Credentials] = TypeAdapter(Credentials)

# Where a person finds each field in the connection form.
_FORM_NAMES: Final = {
    "access_key_id": "access_key_id (login)",
    "secret_access_key": "secret_access_key (password)",
}
_CURES: Final = {
    "missing": "fill it in",
    "extra_forbidden": "remove it, or check its spelling",
}


def parse_credentials(fields: Mapping[str, Any], *, connection_id: str) -> Credentials:
    """
    Check a connection's fields.

    :param fields: the connection's content by field name; None and empty text count as not given, as the
        connection form sends them so.
    :param connection_id: for the error.
    :raises CredentialsError: naming every missing, unknown or illegal field; never quoting a secret.
    """
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    try:
        return _CREDENTIALS.validate_python(given)
    except ValidationError as error:
        problems = "\n".join(
            f"- {_form_name(problem['loc'])}: {problem['msg']}; {_CURES.get(problem['type'], 'correct it')}."
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise CredentialsError(
            f"The connection {connection_id!r} (type polysync_sagemaker) is not usable:\n{problems}"
        ) from None


def _form_name(location: tuple[int | str, ...]) -> str:
    name = ".".join(str(part) for part in location)
    return _FORM_NAMES.get(name, name)
