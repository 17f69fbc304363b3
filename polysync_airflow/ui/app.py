"""The application of the tab in the API server: its files, and one endpoint. Nothing else imports it."""

from __future__ import annotations

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI

from polysync_airflow.ui import clear_choices
from polysync_airflow.ui.static_files import get_file


def create_app() -> FastAPI:
    """Return the application. It runs behind Airflow's authentication."""
    app = FastAPI(
        title="Polysync",
        dependencies=[Depends(get_user)],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_api_route("/{build}/{name}", get_file, methods=["GET"], response_model=None)
    app.include_router(clear_choices.router)
    return app
