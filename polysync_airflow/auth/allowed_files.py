"""
Checks the paths of files that a connection names against the folders that the deployment allows.

A connection can name token files, certificates and certificate authorities. A user who may edit connections
must not be able to make a worker read any other file, or send it to AWS or Microsoft Entra ID. ``base_hook``
reads the allowed folders from the Airflow configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polysync_airflow.exceptions import CredentialsError


def allowed_path(path: str, allowed_folders: Sequence[Path], *, field: str) -> Path:
    """
    Resolve a path, including symbolic links and ``..``, and check that it is in an allowed folder.

    :param path: the path that a connection names.
    :param allowed_folders: the folders that the deployment allows.
    :param field: name of the connection field, for the error message.
    :return: the resolved path.
    :raises CredentialsError: if the path is in none of the folders.
    """
    resolved = Path(path).resolve()
    if not any(resolved.is_relative_to(folder.resolve()) for folder in allowed_folders):
        folders = ", ".join(str(folder) for folder in allowed_folders) or "none"
        raise CredentialsError(
            f"{field} = {path!r} is outside the folders that this deployment allows ({folders}). Put the "
            "file into one of these folders, or ask the administrator of the deployment to add its folder to "
            "[polysync_sagemaker] allowed_identity_folders."
        )
    return resolved
