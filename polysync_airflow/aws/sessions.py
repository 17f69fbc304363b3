"""
Makes botocore sessions: with given credentials only, or for the clients that get
credentials from STS.

Secrets stay out of botocore's debug log: the values that botocore logs show ``***``
instead of their content. The loggers themselves are left as they are: they belong to
every user of botocore in the process.

A client can leave out the operations and endpoints that it does not need: botocore
builds its whole model of SageMaker, and the endpoints of all services, from some 44,000
Python objects (18 MiB). They live as long as the client. In a triggerer they make
Python's garbage collector go through all objects of the process more often, which stops
every thread for 0.1 s. A poller needs four of the 430 operations. Botocore's data also
tells the hosts of AWS's endpoints from hosts of its domains that anybody can have.

What is changed here is changed on one session, never on botocore itself, which the
process shares with others.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import boto3
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError, UnknownRegionError
from botocore.loaders import JSONFileLoader, Loader
from botocore.model import Shape
from botocore.parsers import ResponseParser, ResponseParserError
from botocore.session import Session
from botocore.signers import RequestSigner
from botocore.utils import parse_timestamp

from polysync_airflow.aws.responses import limit_responses
from polysync_airflow.exceptions import ParametersError

# What tasks call.
SERVICES: Final = ("sagemaker", "sts", "logs", "sqs")
# What ``polysync verify`` calls, too.
VERIFY_SERVICES: Final = ("iam",)
_GLOBAL_REGION: Final = "aws-global"
# vpce-<id>-<suffix>.<host of the endpoint, with the label vpce before the domain>
_VPC_ENDPOINT: Final = re.compile(
    r"vpce-[a-z0-9-]+\.(?P<service>.+)\.vpce(?P<domain>\.amazonaws\.[a-z.]+)"
)


def is_aws_endpoint(host: str) -> bool:
    """
    Return whether a host is an endpoint of one of the services, also FIPS, dual-stack
    and inside a VPC.

    Other hosts of these domains may belong to anybody: buckets, load balancers, API
    gateways.

    :param host: the host in lower case.
    """
    inside_vpc = _VPC_ENDPOINT.fullmatch(host)
    if inside_vpc:
        host = inside_vpc["service"] + inside_vpc["domain"]
    # One of the labels is the region.
    regions = (_GLOBAL_REGION, *host.split("."))
    return any(host in _hosts_in(region) for region in regions)


@lru_cache(maxsize=64)
def _hosts_in(region: str) -> frozenset[str]:
    """Return the hosts of the services' endpoints in a region; none if it is none."""
    loader = Loader()
    partitions = loader.load_data("partitions")
    # The expression is for regions that are newer than botocore.
    if not any(
        region in partition["regions"] or re.fullmatch(partition["regionRegex"], region)
        for partition in partitions["partitions"]
    ):
        # botocore makes a host of any label, such as that of a bucket:
        # sts.s3.amazonaws.com.
        return frozenset()
    hosts = set()
    for service in (*SERVICES, *VERIFY_SERVICES):
        provider = EndpointProvider(
            loader.load_service_model(service, "endpoint-rule-set-1"), partitions
        )
        for fips, dual_stack in product((False, True), repeat=2):
            parameters = {"Region": region, "UseFIPS": fips, "UseDualStack": dual_stack}
            # Not every partition has all of them.
            with suppress(EndpointProviderError):
                endpoint = provider.resolve_endpoint(**parameters)
                hosts.add(urlsplit(endpoint.url).hostname or "")
    return frozenset(hosts)


REDACTED = "***"
# The second one is that of S3's directory buckets.
_TOKEN_HEADERS: Final = ("X-Amz-Security-Token", "X-Amz-S3session-Token")
# What proves an identity to STS, or that a caller may assume a role.
_SECRET_MEMBERS: Final = frozenset({"ExternalId", "SAMLAssertion", "WebIdentityToken"})
# The key in botocore's context of a call for those that the call has sent.
_SENT_SECRETS: Final = "polysync_sent_secrets"
# The methods of botocore's signers that return the text to sign, which botocore logs.
_SIGNED_TEXTS: Final = ("canonical_request", "canonical_string")
# The responses with credentials, and those with callback tokens, which end a step for
# whoever knows them.
_SECRET_RESPONSES: Final = frozenset(
    {
        "AssumeRoleResponse",
        "AssumeRoleWithSAMLResponse",
        "AssumeRoleWithWebIdentityResponse",
        # Of S3's directory buckets, and of the sign-in by IAM Identity Center.
        "CreateSessionOutput",
        "GetRoleCredentialsResponse",
        "ListPipelineExecutionStepsResponse",
        "ReceiveMessageResult",
        # Errors quote tokens.
        "SendPipelineExecutionStepFailureResponse",
        "SendPipelineExecutionStepSuccessResponse",
    }
)


class RedactedStr(str):
    """
    A text whose ``repr``, which is what botocore logs of a request's parameters, does
    not show it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED)


class RedactedBytes(bytes):
    """
    Bytes whose texts, which are what botocore logs of a response's body, and quotes of
    one that is no XML, do not show them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED.encode())

    __str__ = __repr__


class _SignedText(str):
    """
    A text that is signed with the token of a session, and does not show it, for example
    by ``%s``.
    """

    token: str

    def __str__(self) -> str:
        return _without(str.__str__(self), self.token)

    def __repr__(self) -> str:
        return repr(str(self))


def _without(text: str, secret: str) -> str:
    """Return a text without a secret, also in the form that a URL has it in."""
    for form in (secret, quote(secret, safe="-_.~")):
        text = text.replace(form, REDACTED)
    return text


def hide_secrets(session: Session) -> None:
    """
    Keep secrets out of the log lines in which botocore shows requests, and out of the
    errors in which STS quotes what it was sent.

    These are session tokens, what proves an identity to STS, external ids, and the
    callback tokens of steps. Airflow's secrets masker looks into texts only before
    Airflow 3, and botocore logs objects; and it does not know the credentials that STS
    returns.

    :param session: a session that has made no client yet.
    """
    events = session.get_component("event_emitter")
    answer = "sagemaker.SendPipelineExecutionStep"
    for operation in (f"{answer}Success", f"{answer}Failure", "sqs.SendMessage"):
        events.register_last(f"before-call.{operation}", _redact_body)
    events.register_last("before-call.sts", _redact_identity)
    events.register_first("after-call.sts", _redact_refusal)
    events.register_last("before-sign", _redact_signed_text)
    events.register_last("request-created", _redact_headers)


def without_secrets(
    response: Mapping[str, Any], shape: Shape | None
) -> Mapping[str, Any]:
    """
    Return a response whose body botocore's parser does not log, if it has secrets.

    :param shape: botocore's model of the response; None if the operation returns
        nothing.
    """
    if shape is None or shape.name not in _SECRET_RESPONSES:
        return response
    return {**response, "body": RedactedBytes(response["body"])}


def _redact_body(params: dict[str, Any], **_: Any) -> None:
    body = params.get("body")
    if isinstance(body, bytes):
        params["body"] = RedactedBytes(body)


def _redact_identity(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    body = params.get("body")
    if isinstance(body, dict):
        secrets = {
            name: RedactedStr(body[name]) for name in _SECRET_MEMBERS & body.keys()
        }
        body |= secrets
        context[_SENT_SECRETS] = tuple(secrets.values())


def _redact_refusal(parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    # Before botocore makes an error of it, which its own loggers show, too: a refresh
    # that fails is a warning with a traceback.
    refusal = parsed.get("Error")
    if not isinstance(refusal, dict):
        return
    for secret in context.get(_SENT_SECRETS, ()):
        for member, text in refusal.items():
            if isinstance(text, str):
                refusal[member] = _without(text, secret)


def _redact_headers(request: AWSRequest, **_: Any) -> None:
    # After the signature, and as bytes, which botocore would make of a text.
    headers: Any = request.headers
    for name in _TOKEN_HEADERS:
        token = headers[name]
        if isinstance(token, str):
            headers.replace_header(name, RedactedBytes(token.encode()))


def _redact_signed_text(request_signer: RequestSigner, **_: Any) -> None:
    # On the signer of this client only.
    request_signer.get_auth_instance = partial(_make_auth, request_signer)  # type: ignore[method-assign]


def _make_auth(signer: RequestSigner, *arguments: Any, **options: Any) -> Any:
    auth = type(signer).get_auth_instance(signer, *arguments, **options)
    # botocore has one of these for each request.
    auth.__class__ = _redacting(auth.__class__)
    return auth


@cache
def _redacting(auth: type[Any]) -> type[Any]:
    """
    Return a subclass of one of botocore's, which logs the texts that it signs without
    the token.
    """
    methods = {
        name: _redacted(getattr(auth, name))
        for name in _SIGNED_TEXTS
        if hasattr(auth, name)
    }
    return type(auth.__name__, (auth,), methods)


def _redacted(method: Callable[..., str]) -> Callable[..., str]:
    def signed_text(auth: Any, *arguments: Any, **options: Any) -> str:
        text = method(auth, *arguments, **options)
        if auth.credentials.token:
            text = _SignedText(text)
            text.token = auth.credentials.token
        return text

    return signed_text


_OPENERS: Final[dict[str, Callable[..., Any]]] = {
    ".json": open,
    ".json.gz": gzip.open,
}
_PART_CHARACTERS: Final = 2**16


class PlainDictLoader(JSONFileLoader):
    """
    Reads data files into plain dicts, which take half the memory of botocore's
    ``OrderedDict``.
    """

    def load_file(self, file_path: str) -> Any:
        """
        Return the content of a data file, whose path is without the suffix; None if
        there is none.
        """
        text = _read(file_path, encoding="utf-8")
        if text is None:
            return None
        return json.loads(text)


class ReducedModelLoader(PlainDictLoader):
    """
    Reads only a part of the data files.

    :param operations: the operations that are needed, by service name. The models of
        other services are read in full, but the list of endpoints has only the services
        that are named here.
    """

    def __init__(self, operations: Mapping[str, Collection[str]]) -> None:
        self._operations = operations

    def load_file(self, file_path: str) -> Any:
        """
        Return what is needed of a data file, whose path is without the suffix; None if
        there is none.
        """
        path = Path(file_path)
        # <service>/<version of the API>/service-2
        service = path.parent.parent.name
        is_model = path.name == "service-2" and service in self._operations
        if not is_model and path.name != "endpoints":
            return super().load_file(file_path)
        # Only documentation has other characters than ASCII. Python would need twice
        # the memory for the text, and several times that (26 MiB with Python 3.13) to
        # decode it.
        text = _read(file_path, encoding="ascii", errors="ignore")
        if text is None:
            return None
        if is_model:
            return reduce_service_model(text, self._operations[service])
        return reduce_endpoints(text, self._operations.keys())


def reduce_service_model(text: str, operations: Collection[str]) -> dict[str, Any]:
    """
    Return a service model with some of its operations, and the shapes that these use,
    undocumented.

    :param text: the model, in JSON.
    :param operations: names of operations; names that the model does not have are left
        out.
    """
    # An operation has a name, and a shape has a type. The value is a dict if it is a
    # member with such a name.
    model = _decode(
        text, lambda part: isinstance(part.get("name", part.get("type")), str)
    )
    packed = model["operations"]
    kept = {name: json.loads(packed[name]) for name in operations if name in packed}
    shapes: dict[str, Any] = {}
    pending = set(_shapes_in(kept))
    while pending:
        name = pending.pop()
        shapes[name] = json.loads(model["shapes"][name])
        pending |= set(_shapes_in(shapes[name])) - shapes.keys()
    return {**model, "operations": kept, "shapes": shapes}


def reduce_endpoints(text: str, services: Collection[str]) -> dict[str, Any]:
    """Return botocore's list of endpoints, given in JSON, with some of its services."""
    content = _decode(text, lambda part: "endpoints" in part)
    for partition in content["partitions"]:
        partition["services"] = {
            name: json.loads(service)
            for name, service in partition["services"].items()
            if name in services
        }
    return content


def _decode(text: str, is_packed: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """
    Decode JSON without documentation, and turn some objects in it back into JSON once
    they are complete.

    All objects at once, most of which are not needed, would raise the memory of the
    process for good.
    """

    def pack(part: dict[str, Any]) -> Any:
        if isinstance(part.get("documentation"), str):
            del part["documentation"]
        if is_packed(part):
            return json.dumps(part)
        return part

    content: dict[str, Any] = json.loads(text, object_hook=pack)
    return content


def _shapes_in(value: Any) -> Iterator[str]:
    """Yield the names of the shapes that a part of a model refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("shape"), str):
            yield value["shape"]
        for member in value.values():
            yield from _shapes_in(member)
    elif isinstance(value, list):
        for item in value:
            yield from _shapes_in(item)


def _read(file_path: str, **decoding: str) -> str | None:
    for suffix, open_file in _OPENERS.items():
        path = Path(f"{file_path}{suffix}")
        if path.is_file():
            # Read and decompressed at once, the model of SageMaker would take twice the
            # memory, some of which the process keeps.
            with open_file(path, "rt", **decoding) as file:
                return "".join(iter(partial(file.read, _PART_CHARACTERS), ""))
    return None


# For clients that call often, under a rate limiter. botocore's own retries would bypass
# the limiter and hide from it that AWS throttles. botocore builds its user agent again
# for each call, which takes a tenth of the call's CPU. The threads that make the calls,
# and with them their process, end within the timeouts.
RATE_LIMITED_CONFIG: Final = Config(
    retries={"total_max_attempts": 1},
    user_agent=f"Boto3/{boto3.__version__}",
    connect_timeout=5,
    read_timeout=8,
)
_STS_OPERATIONS: Final = ("AssumeRole", "AssumeRoleWithWebIdentity")


def create_session(credentials: Credentials, region_name: str) -> boto3.session.Session:
    """Make a boto3 session that uses these credentials and no others."""
    session = Session()
    session.register_component("data_loader", _LOADER)
    prepare(session)
    # botocore has no public attribute for an object of credentials; the amazon provider
    # uses this one too.
    session._credentials = credentials  # type: ignore[attr-defined]
    boto3_session = boto3.session.Session(
        botocore_session=session, region_name=region_name
    )
    # Each boto3 session appends boto3's folder to the loader, which all sessions share.
    # Only repetitions are removed, so a thread that goes through the list meanwhile
    # misses nothing.
    _LOADER.search_paths[:] = dict.fromkeys(_LOADER.search_paths)
    return boto3_session


def partitions() -> list[str]:
    """Return the partitions of AWS that botocore, and so boto3, has."""
    names: list[str] = Session().get_available_partitions()
    return names


def partition_of(region: str) -> str:
    """
    Return the partition of a region.

    :raises ParametersError: botocore knows no such region.
    """
    try:
        partition: str = Session().get_partition_for_region(region)
    except UnknownRegionError:
        raise ParametersError(
            f"{region!r} is no AWS region: give names such as eu-central-1."
        ) from None
    return partition


def price_list_region(region: str) -> str:
    """
    Return a region with an endpoint of AWS's price list, which few regions of a
    partition have.

    :raises ParametersError: there is no such region, or its partition has no price
        list.
    """
    partition = partition_of(region)
    regions = Session().get_available_regions("pricing", partition)
    if not regions:
        raise ParametersError(
            f"The partition {partition} of {region} has no price list: write the prices"
            " yourself."
        )
    return str(regions[-1])


def create_sts_session() -> Session:
    """
    Make a botocore session without credentials, whose debug log shows no secrets of
    STS.
    """
    session = Session()
    # Without the time at which they expire, credentials cannot be used.
    prepare(session, timestamp_parser=_parse_timestamp)
    limit_responses(session)
    reduce_models(session, {"sts": _STS_OPERATIONS})
    return session


def client_creator(config: Config, **settings: Any) -> Callable[..., Any]:
    """
    Return the function with which botocore's credential fetchers make their STS client.

    :param settings: arguments of botocore's ``create_client``.
    """

    def create(service: str, **arguments: Any) -> Any:
        merged = config
        config_of_fetcher = arguments.pop("config", None)
        if config_of_fetcher:
            merged = config.merge(config_of_fetcher)
        return create_sts_session().create_client(
            service, config=merged, **settings, **arguments
        )

    return create


def _parse_timestamp_or_none(value: Any) -> datetime | None:
    # One damaged time must not make a list of a hundred executions invalid.
    try:
        return _parse_timestamp(value)
    except (
        AttributeError,
        OSError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ):
        return None


def prepare(
    session: Session,
    *,
    timestamp_parser: Callable[[Any], datetime | None] = _parse_timestamp_or_none,
) -> None:
    """
    Make a session read data files and timestamps with less CPU and memory, and log no
    secrets.

    :param session: a session that has made no client yet.
    :param timestamp_parser: what reads a time. By default, one that is not valid counts
        as missing.
    """
    # Only the way in which files are read: the session's owner may have set where they
    # are searched for.
    session.get_component("data_loader").file_loader = PlainDictLoader()
    hide_secrets(session)
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=timestamp_parser)
    # botocore makes a new parser for each response. Parsers have no state, and each
    # leaves a reference cycle for the garbage collector.
    parsers.create_parser = cache(partial(_create_parser, parsers.create_parser))


def _create_parser(
    create: Callable[[str], ResponseParser], protocol_name: str
) -> ResponseParser:
    parser = create(protocol_name)
    parse = parser.parse

    def parse_or_raise(response: Mapping[str, Any], shape: Any) -> Any:
        # botocore checks no types: a JSON list in place of an object ends in an
        # AttributeError.
        try:
            parsed = parse(without_secrets(response, shape), shape)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ResponseParserError(f"{type(error).__name__}: {error}") from error
        if not isinstance(parsed, dict):
            raise ResponseParserError(f"{type(parsed).__name__} in place of an object")
        refusal = parsed.get("Error")
        if isinstance(refusal, dict) and not isinstance(refusal.get("Code", ""), str):
            # botocore would look for the code in a dict.
            raise ResponseParserError("an error code that is no text")
        return parsed

    # On this parser only: its class depends on the protocol, and belongs to botocore.
    parser.parse = parse_or_raise  # type: ignore[method-assign]
    return parser


def reduce_models(session: Session, operations: Mapping[str, tuple[str, ...]]) -> None:
    """
    Make a session read only some operations of some services.

    :param session: a session that has made no client yet. It can make clients for these
        services only.
    :param operations: the operations, by service name.
    """
    # Without repetitions, which differ from session to session while other threads make
    # sessions.
    search_paths = tuple(
        dict.fromkeys(session.get_component("data_loader").search_paths)
    )
    session.register_component(
        "data_loader", _reduced_loader(tuple(operations.items()), search_paths)
    )


@cache
def _reduced_loader(
    operations: tuple[tuple[str, tuple[str, ...]], ...], search_paths: tuple[str, ...]
) -> Loader:
    # A loader keeps what it has read: each reduced model is read once per process.
    loader = Loader(
        extra_search_paths=list(search_paths), include_default_search_paths=False
    )
    loader.file_loader = ReducedModelLoader(dict(operations))
    return loader


def _parse_timestamp(value: Any) -> datetime:
    # AWS's JSON has Unix times. botocore converts them by way of the host's time zone,
    # which takes a third of the CPU of reading a list of executions.
    if isinstance(value, (int, float)):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    parsed: datetime = parse_timestamp(value)
    return parsed


# Data files are read once per process, not once per session.
_LOADER: Final = Loader()
