"""
The users of an Airflow whose auth manager is that of the FAB provider, and what each
may do.

Nothing but functions imports the provider: the environments of other versions of
Airflow do not have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

AUTH_MANAGER: Final = (
    "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
)
# The DAGs that the editor of some may edit and may only see. All others are hidden.
EDITED: Final = "retraining_00"
SEEN: Final = "retraining_02"
HIDDEN: Final = ("retraining_01", "retraining_03")
_EDITOR: Final = "EditorOfSome"
# It may edit the same DAGs and their runs, but no tasks.
_RUNNER: Final = "RunnerOfSome"
# FAB's own roles Viewer and User lack its permission, without which Airflow's UI has
# neither tabs nor pages of plugins.
_PLUGINS: Final = "ReaderOfPlugins"
_SEES_PLUGINS: Final = ("can_read", "Plugins")
# The roles of each user. "Public" may nothing.
USERS: Final = {
    "admin": ["Admin"],
    "viewer": ["Viewer", _PLUGINS],
    "viewer without plugins": ["Viewer"],
    "user without plugins": ["User"],
    "op": ["Op"],
    "editor": [_EDITOR],
    "runner": [_RUNNER],
    "nobody": ["Public"],
}


def has_fab() -> bool:
    """Return whether this Airflow shows tabs of plugins, and FAB is installed."""
    return CAPABILITIES.react_apps and find_spec("airflow.providers.fab") is not None


def password_of(user: str) -> str:
    """Return the password of a user."""
    return f"{user}-password"


def add_users(session: Session, users: Mapping[str, list[str]] = USERS) -> None:
    """
    Add users with their roles to the database of an Airflow that has been started with
    FAB.
    """
    from airflow.providers.fab.www.security_appless import ApplessAirflowSecurityManager
    from werkzeug.security import generate_password_hash

    manager = ApplessAirflowSecurityManager(session=session)
    of_all_dags = ("can_read", "DAGs")
    of_some_dags = [each for each in manager.VIEWER_PERMISSIONS if each != of_all_dags]
    of_some_dags += [("can_edit", "DAG Runs"), _SEES_PLUGINS]
    of_tasks = [*of_some_dags, ("can_edit", "Task Instances")]
    manager.bulk_sync_roles(
        [
            {"role": _EDITOR, "perms": of_tasks},
            {"role": _RUNNER, "perms": of_some_dags},
            {"role": _PLUGINS, "perms": [_SEES_PLUGINS]},
        ]
    )
    # What Airflow does with the argument access_control of a DAG.
    both = {"can_read", "can_edit"}
    manager.sync_perm_for_dag(EDITED, {_EDITOR: both, _RUNNER: both})
    manager.sync_perm_for_dag(SEEN, {_EDITOR: {"can_read"}, _RUNNER: {"can_read"}})
    for hidden in HIDDEN:
        manager.sync_perm_for_dag(hidden, {})
    roles = {role.name: role for role in manager.get_all_roles()}
    for user, names in users.items():
        manager.add_user(
            user,
            first_name=user,
            last_name="Doe",
            email=f"{user.replace(' ', '-')}@example.com",
            role=[roles[name] for name in names],
            hashed_password=generate_password_hash(
                password_of(user), "pbkdf2:sha256:1"
            ),
        )
