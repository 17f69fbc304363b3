"""The layout of both packages: imports go downwards only, and modules stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.packaging.layers import (
    EMULATOR_FOLDER_LAYERS,
    EMULATOR_LAYERS,
    FOLDER_LAYERS,
    LAYERS,
)

TESTS = Path(__file__).parents[1]
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
MAX_AT_THE_TOP = 28
MAX_LINES = 800
# What also works where Airflow is not installed. ``exceptions`` makes its errors those of
# Airflow only where it is.
NO_AIRFLOW = (
    "execution",
    "exceptions",
    "get_provider_info",
    "states",
    "aws",
    "auth.allow_list",
    "auth.iam_policies",
    "auth.pipeline_role",
)
WITH_AIRFLOW_OR_WITHOUT = "exceptions"
# What asks nothing of Airflow itself, and only has secrets masked by ``airflow_compat``,
# or does without Airflow until it needs a connection.
NO_AIRFLOW_OF_ITS_OWN = ("auth.connection", "auth.sts", "cli.iam")
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
# The functions that import a module by its name.
IMPORTERS = {
    "__import__",
    "exec_module",
    "find_spec",
    "import_module",
    "import_string",
    "load_module",
    "locate",
    "reload",
    "resolve_name",
    "run_module",
    "spec_from_file_location",
}
# The class paths that tasks name, by module. Airflow stores them when it parses a DAG,
# and imports them in a triggerer, where the tasks start. The triggers run the code of
# these tasks, so they are above them: a task cannot import its own.
STORED_CLASS_PATHS = {
    (
        "operators.step_tasks",
        "polysync_airflow.start_in_triggerer.PolysyncStepTaskEndTrigger",
    ),
    ("sensors.base", "polysync_airflow.start_in_triggerer.PolysyncTaskTrigger"),
}
# It has the names that Airflow imports when it looks for providers.
AIRFLOWS_FILE = "provider_info.json"
DECODERS = {"load", "loads", "JSONDecoder", "decoder", "scanner"}
DECODERS_OF_OWN_JSON = {
    "execution.json_input",
    # Files of this package and of botocore.
    "aws.sessions",
    "exceptions",
    "get_provider_info",
    # What the same process has encoded.
    "execution.steps.progress",
    "sensors.base",
}
# What reads Airflow's database, and what it needs for that.
DATABASE_READER = "airflow_compat.reads"
DATABASE_MODULES = ("airflow.models", "airflow.jobs", "airflow.settings")
METHODS_OF_SESSIONS = {"execute", "get", "query", "scalar", "scalars", "stream"}
# Tasks and triggers ask Airflow for XComs and Variables here.
READERS_BY_AIRFLOW = ("airflow_compat.task_instances", "triggers.task_end")
MODULES = sorted(PACKAGE.rglob("*.py"))
EMULATOR_MODULES = sorted(EMULATOR.rglob("*.py"))


def package_of(path: Path) -> Path:
    """Return the folder of the package that a module is in."""
    return next(each for each in (*ORDER, EMULATOR_TESTS) if path.is_relative_to(each))


def name_of(path: Path) -> str:
    """Return a module's dotted name below its package."""
    return ".".join(path.relative_to(package_of(path)).with_suffix("").parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, anywhere in it."""
    return _imports_in(tree_of(path))


def _imports_for_types(path: Path) -> set[str]:
    """Return the modules that a file imports for its annotations only."""
    return {
        name
        for node in tree_of(path).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for name in _imports_in(node)
    }


def _imports_in(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
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
    paths = [package.parent.joinpath(*name.split(".")) for package in ORDER]
    return any(
        path.with_suffix(".py").exists() or (path / "__init__.py").exists()
        for path in paths
    )


@cache
def names_in(package: Path) -> set[str]:
    """Return the names of all modules of a package, as ``name_of`` returns them."""
    return {name_of(module) for module in package.rglob("*.py")}


def own_imports_of(path: Path, package: Path) -> set[str]:
    """
    Return the modules of its package that a file imports, named as ``name_of`` names
    them.
    """
    names = names_in(package)
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
    shares with the import. What runs a task, and what it uses, knows the type of the
    task, which is above it in the same folder.
    """
    problems = []
    for path in sorted(package.rglob("*.py")):
        mine = name_of(path).split(".")
        types = {
            name.removeprefix(f"{package.name}.") for name in _imports_for_types(path)
        }
        for imported in own_imports_of(path, package):
            other = imported.split(".")
            if imported in types and other[:-1] == mine[:-1]:
                continue
            shared = next(
                i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b
            )
            layers = ORDER[package][".".join(mine[:shared])]
            if layer_of(other[shared], layers) >= layer_of(mine[shared], layers):
                problems.append(f"{name_of(path)} imports {imported}")
    assert_none(problems)


def own_names_of(path: Path) -> Iterator[tuple[int, str]]:
    """
    Yield the strings in a file's code that name a module of its package, or what is in
    one, with their lines.
    """
    tree = tree_of(path)
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        names = re.findall(r"\w+", str(node.value))
        is_name = re.fullmatch(r"[\w.:]+", str(node.value))
        is_ours = is_name and names[:1] == [package_of(path).name]
        if is_ours and _is_own_module(".".join(names[:2])):
            yield node.lineno, str(node.value)


def own_paths_of(path: Path) -> set[str]:
    """
    Return the values of ``__module__`` in the classes of a file, if they are the name
    of a package that the file is in.
    """
    folders = path.relative_to(package_of(path).parent).parent.parts
    packages = {".".join(folders[: i + 1]) for i in range(len(folders))}
    return packages & {
        node.value.value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "__module__"
        and isinstance(node.value, ast.Constant)
    }


def unreadable_imports_of(path: Path) -> Iterator[str]:
    """
    Yield the imports in a file of which ``imports_of`` and ``own_names_of`` do not see
    what they import: relative ones, and those by a name that is computed.
    """
    constants = {
        ast.unparse(target)
        for node in tree_of(path).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            renamed = {alias.name for alias in node.names if alias.asname}
            is_readable = not node.level and not renamed & IMPORTERS
        elif isinstance(node, ast.Call) and _imports_by_name(node.func):
            name = ast.unparse(node.args[0]) if node.args else ""
            is_absolute = re.fullmatch(r"'\w[\w.]*'", name)
            is_readable = is_absolute is not None or name in constants
        else:
            continue
        if not is_readable:
            yield f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}"


def _imports_by_name(function: ast.expr) -> bool:
    name = getattr(function, "attr", None) or getattr(function, "id", None)
    return name in IMPORTERS


@PACKAGES
def test_no_own_module_is_imported_by_its_name(package: Path) -> None:
    """
    The order of the layers holds for all imports only if each is a statement. What
    Airflow imports by a class path is listed.
    """
    problems: list[str] = []
    listed = set()
    for path in sorted(package.rglob("*.py")):
        problems += unreadable_imports_of(path)
        for line, name in own_names_of(path):
            if (name_of(path), name) in STORED_CLASS_PATHS:
                listed.add((name_of(path), name))
            elif name not in own_paths_of(path):
                problems.append(f"{name_of(path)}:{line} names {name}")
    problems += [
        f"{path.relative_to(package)} names {found[0]}"
        for path in sorted({*package.rglob("*.json"), *package.rglob("*.toml")})
        if path.name != AIRFLOWS_FILE
        and (found := re.search(rf"{package.name}\.\w+", path.read_text()))
    ]
    assert_none(problems)
    assert listed == {each for each in STORED_CLASS_PATHS if package == PACKAGE}


def test_modules_are_small() -> None:
    """A module has at most 800 lines; so have the tests."""
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


def test_unit_tests_need_no_other_folder_of_tests() -> None:
    """
    They share fakes with the folders beside them, and import nothing else from there.
    """
    shared = ("unit", "fakes", *(path.stem for path in TESTS.glob("*.py")))
    assert_none(
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((TESTS / "unit").rglob("*.py"))
        for name in imports_of(path)
        if name.startswith("tests.") and name.split(".")[1] not in shared
    )


def test_each_folder_of_tests_says_when_it_runs() -> None:
    """The page of the tests has a row for each folder, but for that of the fakes."""
    page = (TESTS / "README.md").read_text()
    folders = {path.parent.name for path in TESTS.glob("*/__init__.py")} - {"fakes"}
    assert set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE)) == folders


def test_the_readme_gives_the_command_of_the_tests() -> None:
    """It is that of CI."""
    assert "\nmake test " in (ROOT / "README.md").read_text()
    assert re.search(r"\bmake test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


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
        for node in tree_of(path).body
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
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr in ("now", "today", "utcnow")
        and ast.unparse(node.value).rpartition(".")[2]
        in ("date", "datetime", "timezone")
    )


def with_all_imports(path: Path) -> set[Path]:
    """Return a module and all modules of its package that it imports, also in turn."""
    package = package_of(path)
    found, ahead = set(), {path}
    while ahead:
        each = ahead.pop()
        found.add(each)
        ahead |= {
            package.joinpath(*name.split(".")).with_suffix(".py")
            for name in own_imports_of(each, package)
        } - found
    return found


def test_core_and_calls_to_aws_do_not_need_airflow() -> None:
    """They can be tested and used without Airflow, with all that they import."""
    needed = set().union(
        *(with_all_imports(path) for path in MODULES if _in(path, NO_AIRFLOW))
    )
    without = {path for path in needed if name_of(path) != WITH_AIRFLOW_OR_WITHOUT}
    of_its_own = {path for path in MODULES if _in(path, NO_AIRFLOW_OF_ITS_OWN)}
    assert_no_imports(
        without | of_its_own, lambda name: name.split(".")[0] == "airflow"
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


def test_json_from_outside_is_read_in_one_way() -> None:
    """
    ``json.loads`` raises a ``RecursionError`` for a text of many brackets. What others
    have written is read by ``read_json``; the modules that are named here decode their
    own texts.
    """
    found = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if _decodes_json(node)
    }

    assert found == DECODERS_OF_OWN_JSON


def _decodes_json(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        is_of_json = ast.unparse(node.value) == "json" and node.attr in DECODERS
        return is_of_json or node.attr.endswith("validate_json")
    if isinstance(node, ast.Import):
        return any(each.name == "json" and each.asname for each in node.names)
    return isinstance(node, ast.ImportFrom) and node.module == "json"


def test_airflows_database_is_read_in_one_place() -> None:
    """
    ``reads`` limits what leaves it: ``airflow_compat`` makes queries, and gives them to
    that module.
    """
    others = [path for path in MODULES if name_of(path) != DATABASE_READER]
    outside = [path for path in others if not _in(path, ("airflow_compat",))]
    assert_no_imports(others, lambda name: name == "airflow.utils.session")
    assert_no_imports(outside, _reaches_the_database)
    assert_none(
        f"{name_of(path)}:{node.lineno} reads without a limit: {ast.unparse(node)}"
        for path in others
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and _asks(node, path)
    )


def _reaches_the_database(name: str) -> bool:
    if name.startswith("sqlalchemy"):
        return name != "sqlalchemy.exc"
    return name.startswith(DATABASE_MODULES) and name != "airflow.models.crypto"


def _asks(node: ast.Attribute, path: Path) -> bool:
    if node.attr in METHODS_OF_SESSIONS:
        return ast.unparse(node.value) in ("session", "nested", "self._session")
    is_method = ast.unparse(node.value) in ("XCom", "Variable", "MODEL")
    is_read = node.attr == "xcom_pull" or (is_method and node.attr.startswith("get"))
    return is_read and name_of(path) not in READERS_BY_AIRFLOW


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
