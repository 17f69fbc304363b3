"""
Keeps secrets out of botocore's debug log, where botocore writes requests and responses.

The values that botocore logs show ``***`` instead of their content. The loggers themselves are left as they
are: they belong to every user of botocore in the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.parsers import ResponseParser, ResponseParserFactory
from botocore.session import Session

REDACTED = "***"
_HEADER = "X-Amz-Security-Token"


class RedactedStr(str):
    """A text whose ``repr``, which is what botocore logs of a request's parameters, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED)


class RedactedBytes(bytes):
    """Bytes whose ``repr``, which is what botocore logs of a response's body, does not show them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED.encode())


class RedactingParserFactory(ResponseParserFactory):
    """Makes parsers that do not log the body of a response, for sessions whose responses hold credentials."""

    def create_parser(self, protocol_name: str) -> ResponseParser:
        """Make a parser for a protocol, as botocore names it."""
        parser = super().create_parser(protocol_name)
        parse = parser.parse

        def parse_without_logging(response: Mapping[str, Any], shape: Any) -> Any:
            return parse({**response, "body": RedactedBytes(response["body"])}, shape)

        # On this parser only: its class depends on the protocol, and belongs to botocore.
        parser.parse = parse_without_logging  # type: ignore[method-assign]
        return parser


def hide_session_tokens(session: Session) -> None:
    """
    Keep session tokens out of the log lines in which botocore shows signed requests.

    Airflow's secrets masker looks into texts only before Airflow 3, and botocore logs an object.

    :param session: a session that has made no client yet.
    """
    session.get_component("event_emitter").register_last("request-created", _redact_token)


def hide_callback_tokens(session: Session) -> None:
    """
    Keep the callback tokens of steps out of the log lines in which botocore shows requests.

    :param session: a session that has made no client yet.
    """
    emitter = session.get_component("event_emitter")
    answer = "sagemaker.SendPipelineExecutionStep"
    for operation in (f"{answer}Success", f"{answer}Failure", "sqs.SendMessage"):
        emitter.register_last(f"before-call.{operation}", _redact_body)


def _redact_body(params: dict[str, Any], **_: Any) -> None:
    if isinstance(body := params.get("body"), bytes):
        params["body"] = RedactedBytes(body)


def _redact_token(request: AWSRequest, **_: Any) -> None:
    # After the signature, and as bytes, which botocore would make of a text.
    headers: Any = request.headers
    token = headers[_HEADER]
    if isinstance(token, str):
        headers.replace_header(_HEADER, RedactedBytes(token.encode()))
