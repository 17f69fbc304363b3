"""x"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polysync_airflow.exceptions import CredentialsError


def allowed_path(path: str, allowed: Sequence[Path], *, field: str) -> Path:
    """
    Resolve a path and make sure that the deployment allows it.

    :param path: the path that a connection names.
    :param allowed: the folders that the deployment allows.
    :param field: the connection's field, for the error.
    :raises CredentialsError: if it is elsewhere.
    """
    resolved = Path(path).resolve()
    if not any(resolved.is_relative_to(folder.resolve()) for folder in allowed):
        folders = ", ".join(str(folder) for folder in allowed) or "none"
        raise CredentialsError(
            f"{field} = {path!r} is outside the folders that this deployment allows ({folders}). Project the "
            "file into one of them, or let the deployment's administrator add its folder to "
            "[polysync_sagemaker] allowed_identity_folders."
        )
    return resolved
