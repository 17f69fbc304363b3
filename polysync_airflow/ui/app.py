"""
The application of the tab and the page in the API server: its files, and three
endpoints, whose answers nobody may store. Nothing else imports it.

The browser's ``import()`` sends the session cookie of Airflow, so the files need no
exception from Airflow's authentication, although they contain no data. They are read
once, all of them: no part of a URL ever becomes a path of the file system. The URL
contains a digest of the files, so browsers can keep them for good, and an upgrade takes
effect at once.

One endpoint stores what the next clear of a task does: resume, or start anew. Airflow's
REST API clears the task, but cannot tell it why. So the choice goes into the record of
the task's execution, where it counts in place of ``on_clear``, for one clear. Who may
clear the task may choose: the endpoint asks Airflow's auth manager as a clear does.
The session is a cookie, which browsers may also send with requests of other sites'
pages: such requests are refused. Who may not clear a task does not learn whether its
DAG exists.

Another one returns XComs of a task, and what comes next for it. Airflow's own endpoints
load XComs of any size, also to list them. The third one returns the summary above the
page's executions (``summary``).
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as DatabaseTimeoutError
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from polysync_airflow import __version__, exceptions
from polysync_airflow.airflow_compat import reads, sdk
from polysync_airflow.airflow_compat.database import has_dag, task_now
from polysync_airflow.airflow_compat.xcoms import TaskXCom, task_xcoms, xcom_value
from polysync_airflow.execution import json_input, what_next
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.lifecycle.options import OnClear
from polysync_airflow.execution.texts import (
    clean_line,
    clean_text,
    describe_arguments,
    describe_validation_error,
    is_storable_text,
)
from polysync_airflow.records import database
from polysync_airflow.ui import summary
from polysync_airflow.ui.shared_results import RETRY_AFTER, SharedResults
from polysync_airflow.ui.summary import SummaryFilters

log = logging.getLogger(__name__)

PATH = "/dags/{dag_id}/clear-choice"
XCOMS_PATH = "/dags/{dag_id}/xcoms"
SUMMARY_PATH = "/executions-summary"
# Of the XCom ``run``, which has up to 200 parameters of 1,024 characters.
MAX_RUN_BYTES = 4 * reads.MAX_STORED_BYTES
MAX_KEYS = 10
# Three ids of 250 characters, each of which JSON may write as an escape sequence of 12.
MAX_BODY = 16 * 1024


def _check_id(text: str) -> str:
    if not is_storable_text(text):
        raise ValueError("has a character that no id can have")
    return text


# The rules for ids in the records of executions.
Id = Annotated[
    str, StringConstraints(min_length=1, max_length=250), AfterValidator(_check_id)
]


class Change(BaseModel):
    """
    A choice for the next clear of a task instance, whose DAG is in the path of the URL.

    :param on_clear: what it does; None withdraws a choice.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: Id
    task_id: Id
    map_index: Annotated[int, Field(strict=True, ge=-1, le=2**31 - 1)] = -1
    on_clear: OnClear | None


_STATUS_CODES: Final = {
    database.NoRecordError: 404,
    database.TaskNotEndedError: 409,
    exceptions.StoredRecordError: 409,
}
User = Annotated[BaseUser, Depends(get_user)]


async def refuse_unstorable(request: Request) -> None:
    """
    Refuse a URL with a character that no id can have. PostgreSQL fails at a question
    about one, and Airflow asks about the DAG before an endpoint checks its arguments.
    """
    texts = [*request.path_params.values()]
    for name_and_value in request.query_params.multi_items():
        texts += name_and_value
    if not all(map(is_storable_text, texts)):
        raise HTTPException(422, "The URL has a character that no id can have.")


def find_dag(request: Request) -> None:
    """Remember whether the DAG of the URL exists, before its permission is checked."""
    request.state.has_dag = has_dag(request.path_params["dag_id"])


async def refuse_unknown_dag(request: Request) -> None:
    """
    Refuse a DAG that does not exist as Airflow refuses one for which the user lacks the
    permission.

    Airflow allows a DAG without a team to all teams, and so one that does not exist.
    """
    if not request.state.has_dag:
        raise HTTPException(HTTPStatus.FORBIDDEN, "Forbidden")


def _router_for_dag(
    method: Literal["GET", "PUT"], entity: DagAccessEntity
) -> APIRouter:
    """
    Return a router of endpoints that need a permission for the DAG of the URL's path.
    """
    return APIRouter(
        dependencies=[
            Depends(refuse_unstorable),
            Depends(find_dag),
            Depends(requires_access_dag(method=method, access_entity=entity)),
            Depends(refuse_unknown_dag),
        ]
    )


# The check of Airflow's own endpoint clearTaskInstances, and that of its XComs.
router = _router_for_dag("PUT", DagAccessEntity.TASK_INSTANCE)
xcoms = _router_for_dag("GET", DagAccessEntity.XCOM)


def refuse_other_sites(request: Request) -> None:
    """
    Refuse a request that a page of another site has made.

    Browsers name the site, and send JSON across sites only if the server allows it by
    CORS.
    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
    """
    if not _comes_from_own_page(request):
        raise HTTPException(403, "The request comes from a page of another site.")
    content_type, _, _ = request.headers.get("Content-Type", "").partition(";")
    if content_type.strip().lower() != "application/json":
        raise HTTPException(415, "The body must be application/json.")


def _comes_from_own_page(request: Request) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    # Browsers send that header to https and localhost only.
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    # A reverse proxy may pass on another host than the browser's.
    base_url = sdk.conf.get("api", "base_url", fallback="") or ""
    own_hosts = {request.headers.get("Host", ""), urlsplit(base_url).netloc} - {""}
    return urlsplit(origin).netloc in own_hosts


async def remember_user(request: Request, _: User) -> None:
    """Remember that the request comes from a user: Airflow has accepted its token."""
    request.state.is_of_user = True


async def read_change(request: Request) -> Change:
    """Return the body of a request. What is too long is not read to its end."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"The body is longer than {MAX_BODY} bytes.")
    try:
        return Change.model_validate(json_input.read_json(bytes(body), "The body"))
    except json_input.UnreadableJsonError as error:
        raise HTTPException(422, str(error)) from None
    except ValidationError as error:
        raise HTTPException(422, describe_validation_error(error)) from None


async def _forbid_storing(
    request: Request, call_next: RequestResponseEndpoint
) -> Response:
    response = await call_next(request)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


async def _respond_to_problem(_: Request, problem: Exception) -> Response:
    return JSONResponse({"detail": str(problem)}, _STATUS_CODES.get(type(problem), 500))


async def _respond_to_slow_database(_: Request, error: Exception) -> Response:
    log.warning("Airflow's database has not responded: %s", clean_text(str(error)))
    detail = f"Airflow's database is slow. Ask again in {RETRY_AFTER} s."
    headers = {"Retry-After": str(RETRY_AFTER)}
    return JSONResponse({"detail": detail}, HTTPStatus.SERVICE_UNAVAILABLE, headers)


async def _respond_to_refusal(request: Request, refusal: Any) -> Response:
    # A token that Airflow refuses is an error, and so is a file that is refused.
    is_of_user = getattr(request.state, "is_of_user", False)
    is_of_task = request.method == "GET" and "dag_id" in request.path_params
    if is_of_user and is_of_task and refusal.status_code == HTTPStatus.FORBIDDEN:
        # Whoever may not clear the task, or read its XComs, just looks at it: nothing
        # has failed, so there is no error in the console of the browser.
        return JSONResponse({"is_allowed": False})
    return await http_exception_handler(request, refusal)


@router.get(PATH)
def get_clear_choice(
    dag_id: Id, run_id: Id, task_id: Id, map_index: int = -1
) -> dict[str, Any]:
    """
    Return what was chosen for the next clear, and whether the task has a record.

    Whoever gets that may choose, clear and stop.
    """
    task = TaskKey(dag_id, run_id, task_id, map_index)
    try:
        return {"on_clear": database.read_clear_choice(task), "has_record": True}
    except database.NoRecordError:
        # Nothing has failed here either.
        return {"on_clear": None, "has_record": False}


@router.put(PATH, dependencies=[Depends(refuse_other_sites)])
def put_clear_choice(
    dag_id: Id, change: Annotated[Change, Depends(read_change)], user: User
) -> dict[str, Any]:
    """Store what the next clear does, or withdraw it."""
    task = TaskKey(dag_id, change.run_id, change.task_id, change.map_index)
    database.store_clear_choice(task, change.on_clear)
    log.info(
        "%s has chosen what the next clear of a task does: %s, %s",
        clean_line(user.get_name()),
        change.on_clear or "what on_clear says",
        clean_line(str(task)),
    )
    return {"on_clear": change.on_clear}


@xcoms.get(XCOMS_PATH)
def get_xcoms(
    dag_id: Id,
    run_id: Id,
    task_id: Id,
    key: Annotated[list[Id], Query(min_length=1, max_length=MAX_KEYS)],
    map_index: int = -1,
) -> dict[str, Any]:
    """
    Return XComs of a task instance that exist, by key: the JSON as a text, null if it
    is too large, and when it was stored. With ``run``, also what comes next.
    """
    task_key = TaskKey(dag_id, run_id, task_id, map_index)
    task = asdict(task_key)
    found = task_xcoms(set(key) - {"run"}, **task)
    following = {}
    if "run" in key:
        # Before the XCom: the state of a task that has ended is newer than what it has
        # stored.
        now = task_now(**task)
        found |= task_xcoms(["run"], max_bytes=MAX_RUN_BYTES, **task)
        following["next"] = _what_comes_next(task_key, now, found.get("run"))
    return {
        "xcoms": {
            name: {"text": xcom.text, "written_at": xcom.written_at.isoformat()}
            for name, xcom in found.items()
        },
        **following,
    }


def _what_comes_next(
    key: TaskKey, task: what_next.TaskNow | None, xcom: TaskXCom | None
) -> list[dict[str, str | None]]:
    if task is None:
        return []
    run = None
    if xcom and xcom.text:
        run = what_next.read_run(xcom_value(xcom.text))
    return [sentence.as_json for sentence in database.next_of(key, task, run)]


# The checks of Airflow's own lists of XComs. They take no DAG from the URL: what is
# returned is limited to those that the user may read.
executions = APIRouter(
    dependencies=[
        Depends(refuse_unstorable),
        Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM)),
    ]
)


async def read_filters(request: Request) -> SummaryFilters:
    """Return the filters of the query string."""
    try:
        return SummaryFilters.model_validate(dict(request.query_params))
    except ValidationError as error:
        problems = describe_arguments(SummaryFilters, error)
        raise HTTPException(422, problems) from None


@executions.get(SUMMARY_PATH)
def get_executions_summary(
    request: Request,
    user: User,
    filters: Annotated[SummaryFilters, Depends(read_filters)],
) -> Response:
    """Return the summary of the executions that the user may see, by pipeline."""
    shared: SharedResults = request.app.state.summaries

    def calculate() -> bytes:
        return json.dumps(summary.read_summary(dag_ids, filters)).encode()

    with shared.place(user.get_id()):
        dag_ids = summary.readable_dags(user)
        content = shared.get((summary.digest_of(dag_ids), filters), calculate)
    return Response(content, media_type="application/json")


BUNDLE: Final = "sagemaker.js"
_FOLDER: Final = Path(__file__).parent / "static"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@cache
def read_files() -> dict[str, bytes]:
    """Return the content of each file, by name."""
    return {path.name: path.read_bytes() for path in sorted(_FOLDER.glob("*.js"))}


@cache
def build_id() -> str:
    """
    Return the part of the URL that changes with the files: the version, and a digest of
    their content.
    """
    digest = hashlib.sha256()
    for name, content in read_files().items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"{__version__}-{digest.hexdigest()[:12]}"


def get_file(build: str, name: str) -> Response:
    """
    Return a file of the tab.

    :param build: the build of the page that asks.
    :raises HTTPException: there is no such file in this build.
    """
    content = read_files().get(name)
    # A page that was opened before an upgrade gets no mixture of old and new modules.
    if content is None or build != build_id():
        raise HTTPException(404, "Not found. Reload the page.")
    headers = {**_HEADERS, "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(
        content, media_type="text/javascript; charset=utf-8", headers=headers
    )


def create_app() -> FastAPI:
    """Return the application. It runs behind Airflow's authentication."""
    app = FastAPI(
        title="Polysync",
        dependencies=[Depends(remember_user)],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.summaries = SharedResults()
    app.add_middleware(BaseHTTPMiddleware, dispatch=_forbid_storing)
    app.add_api_route("/{build}/{name}", get_file, methods=["GET"], response_model=None)
    for endpoints in (router, xcoms, executions):
        app.include_router(endpoints)
    app.add_exception_handler(exceptions.PolysyncError, _respond_to_problem)
    # The time limit of a statement, and that of the pool of connections.
    for error in (OperationalError, DatabaseTimeoutError):
        app.add_exception_handler(error, _respond_to_slow_database)
    app.add_exception_handler(HTTPException, _respond_to_refusal)
    return app
