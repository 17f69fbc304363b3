"""The layout of both packages: imports go downwards only, and modules stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.packaging.layers import (
    EMULATOR_FOLDER_LAYERS,
    EMULATOR_LAYERS,
    FOLDER_LAYERS,
    LAYERS,
)

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "polysync_airflow"
EMULATOR = ROOT / "emulator" / "sagemaker_emulator"
EMULATOR_TESTS = EMULATOR.parent / "tests"
# The order of each package, by its folder and then by the name of the folder in it.
ORDER = {
    PACKAGE: {"": LAYERS, **FOLDER_LAYERS},
    EMULATOR: {"": EMULATOR_LAYERS, **EMULATOR_FOLDER_LAYERS},
}
PACKAGES = pytest.mark.parametrize("package", ORDER, ids=lambda path: path.name)

# The queue waits for a lock, not for a time of the provider.
# Sockets know the time of the host only.
OWN_TIME = ("execution.clock", "aws.responses")
MAX_AT_THE_TOP = 26
MAX_LINES = 850
NO_AIRFLOW = ("execution", "aws", "cli.iam", "states")
NO_AIRFLOW_IN_AUTH = {"allow_list", "connection", "iam_policies", "sts"}
NO_BOTOCORE = (
    "cli",
    "events.trigger",
    "execution",
    "jobs",
    "operators",
    "sensors",
    "exceptions",
    "links",
    "retrying",
    "sensors",
    "states",
    "ui",
)
MODULES = sorted(PACKAGE.rglob("*.py"))
EMULATOR_MODULES = sorted(EMULATOR.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return a module's dotted name below its package."""
    package = next(
        each for each in (*ORDER, EMULATOR_TESTS) if path.is_relative_to(each)
    )
    return ".".join(path.relative_to(package).with_suffix("").parts)


@cache
def imports_of(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # ``from package import module`` imports the module; any other name comes
            # from ``package`` itself.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                name if _is_own_module(name) else str(node.module) for name in names
            }
    return found


def _is_own_module(name: str) -> bool:
    return any(
        package.parent.joinpath(*name.split(".")).with_suffix(".py").exists()
        for package in ORDER
    )


def own_imports_of(path: Path, package: Path) -> set[str]:
    """
    Return the modules of its package that a file imports, named as ``name_of`` names
    them.
    """
    names = {name_of(module) for module in package.rglob("*.py")}
    imported = {name.removeprefix(f"{package.name}.") for name in imports_of(path)}
    return {
        name
        for name in imported | {f"{each}.__init__" for each in imported}
        if name in names
    }


def layer_of(name: str, layers: tuple[set[str], ...]) -> float:
    """
    Return the layer that an entry is in. What is in none is above all others, but below
    ``__init__``.
    """
    found = [float(number) for number, entries in enumerate(layers) if name in entries]
    return found[0] if found else len(layers) - 1.5


def entries_of(folder: Path) -> set[str]:
    """Return the modules and folders of a folder."""
    return {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }


def assert_none(problems: Iterable[str]) -> None:
    """Assert that there are no problems; all of them are shown."""
    assert not (lines := list(problems)), "\n" + "\n".join(lines)


def assert_no_imports(
    modules: Iterable[Path], forbidden: Callable[[str], bool]
) -> None:
    """
    Assert that none of the modules imports a forbidden module, anywhere in its file.
    """
    assert_none(
        f"{name_of(path)} imports {name}"
        for path in modules
        for name in sorted(imports_of(path))
        if forbidden(name)
    )


@PACKAGES
def test_layers_name_what_exists(package: Path) -> None:
    """
    A module or folder that is removed must be removed from the order, too. At the top,
    all are named.
    """
    problems = []
    for folder, layers in ORDER[package].items():
        found = Counter(entries_of(package.joinpath(*folder.split("."))))
        placed = Counter(name for layer in layers for name in layer)
        problems += [
            f"{folder}: {name} does not exist, or is in two layers"
            for name in placed - found
        ]
    problems += [
        f"{name} is in no layer"
        for name in entries_of(package) - set().union(*ORDER[package][""])
    ]
    assert_none(problems)


@PACKAGES
def test_imports_go_downwards(package: Path) -> None:
    """
    A module imports only from lower layers: of the package, and of each folder that it
    shares with the import.
    """
    problems = []
    for path in sorted(package.rglob("*.py")):
        mine = name_of(path).split(".")
        for imported in own_imports_of(path, package):
            other = imported.split(".")
            shared = next(
                i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b
            )
            layers = ORDER[package][".".join(mine[:shared])]
            if layer_of(other[shared], layers) >= layer_of(mine[shared], layers):
                problems.append(f"{name_of(path)} imports {imported}")
    assert_none(problems)


def test_modules_are_small() -> None:
    """A module has at most 850 lines; so have the tests."""
    modules = [
        path
        for each in (*ORDER, TESTS, EMULATOR_TESTS)
        for path in sorted(each.rglob("*.py"))
    ]
    lines = {path: len(path.read_text().splitlines()) for path in modules}
    assert_none(
        f"{path.relative_to(ROOT)}: {n} lines"
        for path, n in lines.items()
        if n > MAX_LINES
    )


def test_the_top_has_few_entries() -> None:
    """
    The top of the package holds what users import and what maintainers must see first.
    """
    assert len(entries_of(PACKAGE)) <= MAX_AT_THE_TOP


def _in(path: Path, names: tuple[str, ...]) -> bool:
    return any(
        name_of(path) == name or name_of(path).startswith(f"{name}.") for name in names
    )


def test_the_provider_does_not_need_the_emulator() -> None:
    """
    The emulator and the test kit are optional: a production environment has neither
    moto nor pytest.
    """
    optional = ("sagemaker_emulator", "polysync_airflow.testing", "pytest")
    assert_no_imports(
        (path for path in MODULES if not _in(path, ("testing",))),
        lambda name: name.startswith(optional),
    )


def test_the_emulator_does_not_need_the_provider() -> None:
    """
    The emulator is a distribution of its own, and so are its tests: they know neither
    Airflow nor the provider.
    """
    assert_no_imports(
        (*EMULATOR_MODULES, *EMULATOR_TESTS.rglob("*.py")),
        lambda name: name.split(".")[0] in ("airflow", "polysync_airflow"),
    )


def test_openlineage_is_imported_in_functions() -> None:
    """
    It is an optional package: one module imports it as a whole, and only functions
    import that module.
    """
    optional = (
        "openlineage",
        "airflow.providers.openlineage",
        "polysync_airflow.lineage",
    )
    assert_none(
        f"{name_of(path)}:{node.lineno} imports {ast.unparse(node)}"
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom) and name_of(path) != "lineage"
        for name in (
            getattr(node, "module", None) or "",
            *(alias.name for alias in node.names),
        )
        if name.startswith(optional)
    )


def test_the_clock_is_the_only_source_of_time() -> None:
    """
    A test replaces the time of the whole provider in one place, so no other module
    reads it or sleeps.
    """
    modules = [path for path in MODULES if not _in(path, OWN_TIME)]
    assert_no_imports(modules, lambda name: name == "time")
    assert_none(
        f"{name_of(path)}:{node.lineno} reads the time of the host"
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("now", "today", "utcnow")
        and ast.unparse(node.value).rpartition(".")[2]
        in ("date", "datetime", "timezone")
    )


def _needs_airflow(path: Path) -> bool:
    return not _in(path, NO_AIRFLOW) and name_of(path) not in {
        f"auth.{name}" for name in NO_AIRFLOW_IN_AUTH
    }


def test_decisions_and_credentials_do_not_import_airflow() -> None:
    """
    The pure core, the AWS calls and the credentials can be tested and used without
    Airflow.
    """
    assert_no_imports(
        (path for path in MODULES if not _needs_airflow(path)),
        lambda name: name.split(".")[0] == "airflow",
    )


def test_botocore_is_imported_below_the_hook_only() -> None:
    """
    DAG files import the operators: neither boto3 nor botocore may be imported with
    them.
    """
    assert_no_imports(
        (path for path in MODULES if _in(path, NO_BOTOCORE)),
        lambda name: name.split(".")[0] in ("boto3", "botocore"),
    )


def test_the_emulators_engine_is_pure() -> None:
    """
    The engine imports the standard library only, and only its clock module reads the
    time.
    """
    allowed = {*sys.stdlib_module_names, "sagemaker_emulator"}
    impure = {"time", "datetime", "random", "secrets", "uuid"}
    engine = [path for path in EMULATOR_MODULES if _in(path, ("engine",))]
    assert_no_imports(engine, lambda name: name.split(".")[0] not in allowed)
    assert_no_imports(
        (path for path in engine if path.stem != "clock"),
        lambda name: name.split(".")[0] in impure,
    )


def test_no_file_names_the_host_of_a_package_index() -> None:
    """
    Whoever installs the packages may have another one, for example a mirror of the
    company.
    """
    hosts = re.compile(
        "|".join(rf"{name}\.org" for name in ("pypi", "pythonhosted", "npmjs"))
    )
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    texts = {
        name: (ROOT / name).read_text(errors="replace")
        for name in listed.stdout.split("\0")
        if name
    }

    assert [name for name, text in texts.items() if hosts.search(text)] == []
