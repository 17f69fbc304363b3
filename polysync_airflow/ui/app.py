"""
The application of the tab in the API server: its files, and one endpoint. Nothing else imports it.

The browser's ``import()`` sends the session cookie of Airflow, so the files need no exception from Airflow's
authentication, although they contain no data. They are read once, all of them: no part of a URL ever becomes
a path of the file system. The URL contains a digest of the files, so browsers can keep them for good,
and an upgrade takes effect at once.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI

from polysync_airflow import __version__
from polysync_airflow.ui import clear_choices

if TYPE_CHECKING:
    from fastapi import Response

BUNDLE: Final = "sagemaker_tab.js"
_FOLDER: Final = Path(__file__).parent / "static"
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}


@cache
def read_files() -> dict[str, bytes]:
    """Return the content of each file, by name."""
    return {path.name: path.read_bytes() for path in sorted(_FOLDER.glob("*.js"))}


@cache
def build_id() -> str:
    """Return the part of the URL that changes with the files: the version, and a digest of their content."""
    digest = hashlib.sha256()
    for name, content in read_files().items():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return f"{__version__}-{digest.hexdigest()[:12]}"


def get_file(build: str, name: str) -> Response:
    """
    Return a file of the tab.

    :param build: the build of the page that asks.
    :raises HTTPException: there is no such file in this build.
    """
    from fastapi import HTTPException, Response

    content = read_files().get(name)
    # A page that was opened before an upgrade gets no mixture of old and new modules.
    if content is None or build != build_id():
        raise HTTPException(404, "Not found. Reload the page.", headers={"Cache-Control": "no-store"})
    headers = {**_HEADERS, "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(content, media_type="text/javascript; charset=utf-8", headers=headers)


def create_app() -> FastAPI:
    """Return the application. It runs behind Airflow's authentication."""
    app = FastAPI(
        title="Polysync", dependencies=[Depends(get_user)], openapi_url=None, docs_url=None, redoc_url=None
    )
    app.add_api_route("/{build}/{name}", get_file, methods=["GET"], response_model=None)
    app.include_router(clear_choices.router)
    return app
