"""The package layout: imports go downwards only, and folders and modules stay small."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "polysync_airflow"

# The order of the top of the package, lowest layer first. A module may import from lower layers, and a folder is in
# one layer as a whole. docs/explanation/architecture.md says what each entry is responsible for.
LAYERS = (
    {"airflow_compat"},
    {"__init__", "exceptions", "states", "get_provider_info"},
    {"execution"},
    {"aws", "links", "records", "retrying", "ui"},
    {"auth"},
    {"hooks", "iam"},
    {"jobs", "triggers"},
    {"operators"},
    {"dags"},
    {"emulator"},
    {"cli", "testing"},
)
# The order inside the folders whose modules build on each other, lowest layer first.
FOLDER_LAYERS = {
    "airflow_compat": (
        {"capabilities", "connection_form", "retry_policy"},
        {
            "connections",
            "database",
            "sdk",
            "supervisor",
            "task_instances",
            "task_process",
            "variables",
        },
        {"__init__"},
    ),
    "execution": (
        {"clock", "console", "texts"},
        {"models"},
        {"parameters", "recovery", "waiter"},
        {"pipelines"},
        {"steps"},
        {"outcome"},
        {"__init__"},
    ),
    "execution.pipelines": (
        {"models"},
        {"definition", "parameter_types"},
        {"parameter_problems"},
        {"__init__"},
    ),
    "execution.steps": ({"kinds"}, {"rows"}, {"progress"}, {"__init__"}),
    "aws": (
        {"error_mapping", "job_logs", "log_redaction", "rate_limiter", "service_models"},
        {"retry", "sessions"},
        {"concurrent_calls", "stop"},
        {"__init__"},
    ),
    "auth": (
        {"allow_list", "iam_policies", "entra", "secret_masking"},
        {"connection_test", "web_identity_token"},
        {"refresh"},
        {"sts"},
        {"credentials"},
        {"connection"},
        {"base_hook"},
        {"__init__"},
    ),
    "records": (
        {"signature"},
        {"ownership", "proof"},
        {"copies", "port"},
        {"task_state_store", "variable_store"},
        {"store"},
        {"__init__"},
        {"__main__"},
    ),
    "ui": ({"static_files"}, {"plugin"}, {"__init__"}),
    "jobs": ({"arguments", "catalogue"}, {"fan_out", "importer"}, {"__init__"}),
    "jobs.catalogue": ({"models"}, {"drift", "entries", "file"}, {"__init__"}),
    "dags": ({"broken_jobs", "job_values"}, {"factory"}, {"__init__"}),
    "triggers": (
        {"due_queue", "message_queue", "schedule", "stop_threads"},
        {"shared_client"},
        {"step_pusher", "subscription"},
        {"step_lists"},
        {"poller"},
        {"registry"},
        {"pipeline_execution"},
        {"__init__"},
    ),
    "operators": (
        {"base", "outcome", "own_target", "parameter_check", "request", "stopping"},
        {"failure_callback", "starter"},
        {"on_kill"},
        {"list_import", "start", "stop"},
        {"__init__"},
    ),
    "operators.outcome": ({"asset_events", "errors", "xcoms"}, {"steps"}, {"__init__"}),
    "testing": (
        {"metadata_db", "passing_time"},
        {"dag_files", "emulator"},
        {"plugin"},
        {"__init__"},
    ),
    "emulator": (
        {"errors"},
        {"protocol", "engine"},
        {"sagemaker"},
        {"sign_in"},
        {"server"},
        {"__init__"},
        {"__main__"},
    ),
    "cli": (
        {"output", "parser"},
        {"delegated", "jobs"},
        {"command_line"},
        {"__init__"},
        {"__main__"},
    ),
    "emulator.engine": (
        {"clock", "definition", "durations", "expressions"},
        {"caching", "conditions", "parameters", "retry_policies", "scenarios"},
        {"step_runs"},
        {"execution"},
        {"__init__"},
    ),
    "emulator.sagemaker": (
        {"pagination", "validation", "store"},
        {"calls"},
        {"jobs", "pipelines", "selective_execution"},
        {"job_logs", "step_summaries"},
        {"executions"},
        {"api"},
        {"__init__"},
    ),
    "emulator.sign_in": (
        {"issuers", "policies", "settings"},
        {"iam", "trust"},
        {"authorization", "sessions", "web_identity"},
        {"callers"},
        {"sts"},
        {"__init__"},
    ),
    "emulator.server": (
        {"browser_guard", "call_log", "client", "faults", "moto_app"},
        {"control"},
        {"router"},
        {"server"},
        {"__init__"},
    ),
}
# Extras that the provider itself does not need.
OPTIONAL = ("emulator", "testing")
# The queue waits for a lock, not for a time of the provider.
OWN_TIME = ("execution.clock", "triggers.message_queue", "emulator")
MAX_AT_THE_TOP = 21
MAX_MODULES_PER_FOLDER = 12
MAX_LINES = 400
NO_AIRFLOW = ("execution", "aws", "iam", "states", "emulator")
NO_AIRFLOW_IN_AUTH = {
    "allow_list",
    "connection",
    "connection_test",
    "credentials",
    "entra",
    "iam_policies",
    "refresh",
    "sts",
}
NO_BOTOCORE = (
    "cli",
    "execution",
    "jobs",
    "operators",
    "exceptions",
    "iam",
    "links",
    "retrying",
    "states",
    "ui",
)
PURE = ("emulator.engine",)

MODULES = sorted(PACKAGE.rglob("*.py"))
ALL_MODULES = MODULES + sorted(TESTS.rglob("*.py"))
FOLDERS = sorted({path.parent for path in ALL_MODULES})


def name_of(path: Path) -> str:
    """Return a module's dotted name below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # ``from package import module`` imports the module; any other name comes from ``package`` itself.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if _is_own_module(name) else str(node.module) for name in names}
    return found


def _is_own_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists()


def own_imports_of(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, named as ``name_of`` names them."""
    names = {name_of(module) for module in MODULES}
    imported = {name.removeprefix("polysync_airflow.") for name in imports_of(path)}
    return {name for name in imported | {f"{each}.__init__" for each in imported} if name in names}


def layer_of(name: str, layers: tuple[set[str], ...]) -> int:
    """Return the layer that an entry is in; every entry must be in one."""
    (layer,) = (number for number, entries in enumerate(layers) if name in entries)
    return layer


def entries_of(folder: Path) -> set[str]:
    """Return the modules and folders of a folder."""
    return {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }


@pytest.mark.parametrize("folder", ["", *FOLDER_LAYERS])
def test_every_module_is_in_a_layer(folder: str) -> None:
    """A new module or folder must be placed in the order, and a removed one must be removed from it."""
    layers = FOLDER_LAYERS[folder] if folder else LAYERS
    assert entries_of(PACKAGE.joinpath(*folder.split(".")) if folder else PACKAGE) == set().union(*layers)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downwards(path: Path) -> None:
    """A module imports only from lower layers: of the package, and of each folder that it shares with the import."""
    mine = name_of(path).split(".")
    for imported in own_imports_of(path):
        other = imported.split(".")
        shared = next(i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b)
        layers = FOLDER_LAYERS[".".join(mine[:shared])] if shared else LAYERS
        assert layer_of(other[shared], layers) < layer_of(mine[shared], layers), imported


def test_the_top_has_few_entries() -> None:
    """The top of the package holds what users import and what maintainers must see first."""
    assert len(entries_of(PACKAGE)) <= MAX_AT_THE_TOP


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_folders_are_small(folder: Path) -> None:
    """No folder has more than twelve modules, ``__init__`` included; the same holds for the tests."""
    assert len(list(folder.glob("*.py"))) <= MAX_MODULES_PER_FOLDER


@pytest.mark.parametrize("path", ALL_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_small(path: Path) -> None:
    """No module has more than 400 lines; the same holds for the tests."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


def _in(path: Path, names: tuple[str, ...]) -> bool:
    return any(name_of(path) == name or name_of(path).startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("path", [p for p in MODULES if not _in(p, OPTIONAL)], ids=name_of)
def test_the_provider_does_not_need_the_emulator(path: Path) -> None:
    """The emulator and the test kit are optional extras: a production environment has neither moto nor pytest."""
    extras = tuple(f"polysync_airflow.{name}" for name in OPTIONAL)
    assert not any(module.startswith((*extras, "pytest")) for module in imports_of(path))


@pytest.mark.parametrize("path", [p for p in MODULES if not _in(p, OWN_TIME)], ids=name_of)
def test_the_clock_is_the_only_source_of_time(path: Path) -> None:
    """A test replaces the time of the whole provider in one place, so no other module reads it or sleeps."""
    assert "time" not in imports_of(path)


def _needs_airflow(path: Path) -> bool:
    return not _in(path, NO_AIRFLOW) and name_of(path) not in {f"auth.{name}" for name in NO_AIRFLOW_IN_AUTH}


@pytest.mark.parametrize("path", [p for p in MODULES if not _needs_airflow(p)], ids=name_of)
def test_decisions_and_credentials_do_not_import_airflow(path: Path) -> None:
    """The pure core, the AWS calls and the credentials can be tested and used without Airflow."""
    assert not any(module.split(".")[0] == "airflow" for module in imports_of(path))


@pytest.mark.parametrize("path", [p for p in MODULES if _in(p, NO_BOTOCORE)], ids=name_of)
def test_botocore_is_imported_below_the_hook_only(path: Path) -> None:
    """DAG files import the operators: neither boto3 nor botocore may be imported with them."""
    assert not any(module.split(".")[0] in ("boto3", "botocore") for module in imports_of(path))


@pytest.mark.parametrize("path", [p for p in MODULES if _in(p, PURE)], ids=name_of)
def test_the_emulators_engine_is_pure(path: Path) -> None:
    """The engine imports the standard library only, and only its clock module reads the time."""
    outside = {module.split(".")[0] for module in imports_of(path)} - {"polysync_airflow"}
    assert outside <= set(sys.stdlib_module_names)
    if path.stem != "clock":
        assert not outside & {"time", "datetime", "random", "secrets", "uuid"}
