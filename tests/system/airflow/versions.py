"""
What differs between the Airflow versions that the tests can run: the client, the
commands, and the settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from packaging.version import Version

from tests.system.airflow.client import AirflowClient
from tests.system.airflow.client_v1 import ClientV1
from tests.system.airflow.client_v2 import ClientV2

Options = dict[str, dict[str, str]]

# Gives every user the rights of an administrator, without a login.
_WEBSERVER_CONFIG: Final = 'AUTH_ROLE_PUBLIC = "Admin"\n'
# Airflow asks people from 3.1 on.
_IGNORED_BY_TWO: Final = "approve_model\n"


@dataclass(frozen=True)
class AirflowVersion:
    """
    The differences of a version.

    :param client: returns the client, from the address of the API server and the
        SQLAlchemy URL of the database.
    :param commands: the arguments of ``airflow`` that start a component, by kind, where
        they are not its name.
    :param dag_options: prepares the home folder for the folders with DAG files, and
        returns options.
    :param options: further options.
    :param renamed: the names of environment variables with options that have other
        names than in the newest version; None if the version has no such option.
    :param trigger_fired: what a triggerer writes to a task's log when the task's
        trigger has fired.
    :param sqlite: whether LocalExecutor can use a database of SQLite.
    :param connection_forms: whether the API server returns the definitions of
        connection forms.
    :param stored_secrets: whether Airflow tests a connection with the secrets that it
        has stored, which its API hides.
    :param local_executor: the executor that runs tasks in processes of the scheduler.
    :param kubernetes_executor: the executor that runs tasks in pods.
    :param map_index: the column of the table ``task_instance`` with the map index.
    :param fails_runs_again: seconds in which the scheduler may set a DAG run that has
        failed to failed once more. A clear that comes before is lost.
    :param scoped_tabs: whether only the tasks that a plugin names have its tab.
    :param watches: whether Airflow tells a plugin of the end of tasks that have no
        process.
    """

    client: Callable[[str, str], AirflowClient]
    commands: Mapping[str, tuple[str, ...]]
    dag_options: Callable[[Path, Sequence[Path]], Options]
    options: Options
    renamed: Mapping[str, str | None]
    trigger_fired: str
    sqlite: bool
    connection_forms: bool
    stored_secrets: bool
    local_executor: str = "LocalExecutor"
    kubernetes_executor: str = "KubernetesExecutor"
    map_index: str = "map_index"
    fails_runs_again: float = 0
    scoped_tabs: bool = False
    watches: bool = True

    def rename(self, settings: Mapping[str, str]) -> dict[str, str]:
        """
        Return environment variables with the names of their options in this version,
        without those that it lacks.

        :param settings: environment variables with the names of the newest version.
        """
        names = {name: self.renamed.get(name, name) for name in settings}
        return {new: settings[name] for name, new in names.items() if new is not None}


def environment(options: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the environment variables that set options, given by section and name."""
    return {
        _variable(section, name): value
        for section, values in options.items()
        for name, value in values.items()
    }


def _variable(section: str, name: str) -> str:
    return f"AIRFLOW__{section}__{name}".upper()


def _bundles(_home: Path, folders: Sequence[Path]) -> Options:
    bundles = [
        {
            "name": f"folder-{folder.name}",  # example_dags is a reserved name
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder), "refresh_interval": 5},
        }
        for folder in folders
    ]
    return {"dag_processor": {"dag_bundle_config_list": json.dumps(bundles)}}


def team_settings(team: str, settings: Mapping[str, str]) -> dict[str, str]:
    """
    Return the settings with which a team has all DAGs, and an executor of its own.

    Airflow has teams from 3.3 on.

    :param settings: those of the deployment, with its bundles and its executor.
    """
    bundles_setting = _variable("dag_processor", "dag_bundle_config_list")
    bundles = json.loads(settings[bundles_setting])
    executor = settings[_variable("core", "executor")]
    server_url = settings[_variable("core", "execution_api_server_url")]
    return {
        _variable("core", "multi_team"): "True",
        _variable("core", "executor"): f"{executor};{team}={executor}",
        # The executor of a team reads the options of its team only.
        _variable(f"{team}___core", "execution_api_server_url"): server_url,
        bundles_setting: json.dumps(
            [{**bundle, "team_name": team} for bundle in bundles]
        ),
    }


def _linked_folders(home: Path, folders: Sequence[Path]) -> Options:
    """
    Airflow 2 has one folder with DAG files, and its web server reads its security
    settings from a file.
    """
    dags = home / "dags"
    dags.mkdir()
    for folder in folders:
        (dags / folder.name).symlink_to(folder, target_is_directory=True)
    (dags / ".airflowignore").write_text(_IGNORED_BY_TWO)
    settings = home / "webserver_config.py"
    settings.write_text(_WEBSERVER_CONFIG)
    return {
        "core": {"dags_folder": str(dags)},
        "webserver": {"config_file": str(settings)},
        # Airflow 3 has the logs of the callbacks in this folder.
        "scheduler": {
            "child_process_log_directory": str(home / "logs" / "dag_processor")
        },
    }


def _renamed(
    names: Mapping[tuple[str, str], tuple[str, str] | None],
) -> dict[str, str | None]:
    return {_variable(*name): new and _variable(*new) for name, new in names.items()}


_THREE: Final = AirflowVersion(
    client=lambda url, _database: ClientV2(url),
    commands={},
    dag_options=_bundles,
    options={},
    renamed={},
    trigger_fired="Trigger fired event",
    sqlite=True,
    connection_forms=True,
    stored_secrets=True,
)
_TWO: Final = AirflowVersion(
    client=ClientV1,
    commands={"api-server": ("webserver",)},
    dag_options=_linked_folders,
    options={
        "scheduler": {"standalone_dag_processor": "True", "dag_dir_list_interval": "5"},
        # No timeout: the web server also ends if it counts the processes of gunicorn
        # wrongly for so long.
        "webserver": {"web_server_master_timeout": "0"},
    },
    renamed=_renamed(
        {
            ("core", "simple_auth_manager_all_admins"): None,
            ("core", "execution_api_server_url"): None,
            ("api", "host"): ("webserver", "web_server_host"),
            ("api", "port"): ("webserver", "web_server_port"),
            ("api", "base_url"): ("webserver", "base_url"),
            ("api", "workers"): ("webserver", "workers"),
            ("dag_processor", "min_file_process_interval"): (
                "scheduler",
                "min_file_process_interval",
            ),
            ("dag_processor", "print_stats_interval"): (
                "scheduler",
                "print_stats_interval",
            ),
            ("dag_processor", "dag_file_processor_timeout"): (
                "core",
                "dag_file_processor_timeout",
            ),
            ("scheduler", "task_instance_heartbeat_timeout"): (
                "scheduler",
                "scheduler_zombie_task_threshold",
            ),
            # The default remains. Airflow 2 reports a dead task again at each detection
            # until the callback of the first report has ended, and a report that comes
            # after a clear fails the next try.
            ("scheduler", "task_instance_heartbeat_timeout_detection_interval"): None,
        }
    ),
    trigger_fired=" fired: TriggerEvent",
    sqlite=False,
    connection_forms=False,
    stored_secrets=False,
    fails_runs_again=5,
    watches=False,
)


_THREE_FOUR: Final = replace(_THREE, map_index="region_index", scoped_tabs=True)
# docs/reference/versions.md has the bug.
_THREE_FOUR_BETA: Final = replace(
    _THREE_FOUR,
    local_executor="tests.system.airflow.executors.LocalExecutorWithOwnSession",
    kubernetes_executor="tests.chaos.deployment.kubernetes.executor.KubernetesExecutorWithOwnSession",
)


def _installed() -> AirflowVersion:
    release = Version(version("apache-airflow"))
    if release.major == 2:
        return _TWO
    if release < Version("3.4.0b1"):
        return _THREE
    return _THREE_FOUR_BETA if release <= Version("3.4.0b2") else _THREE_FOUR


INSTALLED: Final = _installed()
