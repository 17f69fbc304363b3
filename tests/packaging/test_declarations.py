"""
An operator only declares, and a run runs: imports in functions, and who assigns which
attributes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

import polysync_airflow.operators.step_tasks
import polysync_airflow.sensors
from polysync_airflow.operators.try_runner import TryRunner
from tests.packaging.test_structure import MODULES, assert_none, name_of, tree_of

MAX_IMPORTS_IN_FUNCTIONS: Final = 13
MAX_IN_THE_PACKAGE: Final = 70
MAX_MUTABLE_FIELDS: Final = 4
DECLARING: Final = ("operators", "sensors")
# Only these import in their bodies. The last two are for an optional package.
BOUNDARIES: Final = {
    "_run_in",
    "stop_orphaned_execution",
    "get_openlineage_facets_on_start",
    "lineage",
}
# What assigns attributes of an operator, beside its constructor and its properties.
BEGINNINGS: Final = {"_begin_run", "on_kill", "prepare_for_execution"}
# Who changes the task that Airflow executes, as Airflow does itself.
AS_AIRFLOW: Final = {
    # A button is added when its URL is known.
    ("links", "push_url"),
    # Airflow asks the policy several times for one failure.
    ("retrying", "memoize_retry_policy"),
    # It makes the task that runs without a worker.
    ("start_in_triggerer.triggerer_task", "_session"),
}
TASKS: Final = {"operator", "sensor", "task"}
RUN_NAMES: Final = {"current_run", "kill", "run", "runner", "try_runner"}
RUNS: Final = ("Kill", "Monitor", "Responder", "Run", "Runner", "Stop")


class Assignment(NamedTuple):
    """
    What assigns or deletes an attribute.

    :param class_name: the class around it; empty without one.
    :param method: the function around it, below the class or module.
    :param owner: what the attribute is one of, such as ``self`` or ``self.task``.
    :param field: its name; empty if it is computed.
    """

    module: str
    class_name: str
    method: str
    is_setter: bool
    owner: str
    field: str


def assignments_in(module: str, tree: ast.Module) -> Iterator[Assignment]:
    """Yield what assigns an attribute, also by ``setattr``, or in the dict of one."""
    for class_name, function in _functions_of(tree):
        decorators = [ast.unparse(each) for each in function.decorator_list]
        is_setter = any(each.endswith(".setter") for each in decorators)
        for node in ast.walk(function):
            found = _assigned(node)
            if found:
                yield Assignment(module, class_name, function.name, is_setter, *found)


def _functions_of(
    tree: ast.AST, class_name: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield class_name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions_of(node, node.name)
        else:
            yield from _functions_of(node, class_name)


def _assigned(node: ast.AST) -> tuple[str, str] | None:
    """Return whose attribute a node assigns, and which one; None if it assigns none."""
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return ast.unparse(node.value), node.attr
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1].strip("_")
        if name in ("setattr", "delattr") and node.args:
            return ast.unparse(node.args[0]), ""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return ast.unparse(node.value), ""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "vars" and node.args:
        return ast.unparse(node.args[0]), ""
    return None


def is_of_task(found: Assignment) -> bool:
    """Return whether an attribute of an operator or sensor is assigned."""
    if found.owner == "self":
        return found.class_name.endswith(("Operator", "Sensor"))
    return found.owner.rpartition(".")[2] in TASKS


def faults_of_tasks(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield what assigns attributes of operators, and may not."""
    for found in assignments_in(module, tree):
        is_allowed = (
            found.method in ("__init__", *BEGINNINGS)
            and found.class_name.endswith(("Operator", "Sensor"))
        ) or (module, found.method) in AS_AIRFLOW
        if is_of_task(found) and not is_allowed and not found.is_setter:
            yield f"{module}: {found.method} assigns {found.owner}.{found.field}"


def is_run(class_name: str) -> bool:
    """Return whether a class has state of a run, by its name."""
    return class_name.endswith(RUNS)


def faults_of_runs(module: str, tree: ast.Module, fields: set[str]) -> Iterator[str]:
    """Yield what assigns a field of a run, and is not a method of this run."""
    for found in assignments_in(module, tree):
        name = found.owner.rpartition(".")[2]
        is_field = found.field in fields and name not in ("ti", "cls")
        if found.owner != "self" and (name in RUN_NAMES or is_field):
            yield f"{module}: {found.method} assigns {found.owner}.{found.field}"


def faults_of_imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield the imports in functions that are no boundaries."""
    for _, function in _functions_of(tree):
        for node in ast.walk(function):
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            if is_import and function.name not in BOUNDARIES:
                yield f"{module}: {function.name} has {ast.unparse(node)}"


def imports_in_functions(tree: ast.Module) -> int:
    """Return how many imports a module has in functions."""
    return sum(
        isinstance(node, ast.Import | ast.ImportFrom)
        for _, function in _functions_of(tree)
        for node in ast.walk(function)
    )


def fields_of_runs() -> set[str]:
    """Return the fields that methods of runs assign after their constructors."""
    return {
        found.field
        for path in DECLARATIONS
        for found in assignments_in(name_of(path), tree_of(path))
        if is_run(found.class_name)
        and found.owner == "self"
        and found.method != "__init__"
    }


DECLARATIONS: Final = [
    path for path in MODULES if name_of(path).split(".")[0] in DECLARING
]


def test_all_operators_are_seen() -> None:
    """The rules go by names of classes, which each operator and sensor has."""
    assert polysync_airflow.sensors
    assert polysync_airflow.operators.step_tasks
    classes = {node.name for path in DECLARATIONS for node in _classes_of(path)}
    named = {name for name in classes if name.endswith(("Operator", "Sensor"))}

    assert {each.__name__ for each in _subclasses(BaseOperator)} == named


def _classes_of(path: Any) -> list[ast.ClassDef]:
    return [node for node in tree_of(path).body if isinstance(node, ast.ClassDef)]


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith(
            tuple(f"polysync_airflow.{n}" for n in DECLARING)
        ):
            yield each
        yield from _subclasses(each)


def test_operators_import_their_runs_at_one_place() -> None:
    """Airflow parses DAG files all the time; only a run needs boto3."""
    assert_none(
        fault
        for path in DECLARATIONS
        for fault in faults_of_imports(name_of(path), tree_of(path))
    )
    for paths, limit in (
        (DECLARATIONS, MAX_IMPORTS_IN_FUNCTIONS),
        (MODULES, MAX_IN_THE_PACKAGE),
    ):
        assert sum(imports_in_functions(tree_of(path)) for path in paths) <= limit


def test_operators_have_no_state_of_a_run() -> None:
    """Whoever changes a task changes what the DAG author has declared."""
    assert_none(
        fault
        for path in MODULES
        for fault in faults_of_tasks(name_of(path), tree_of(path))
    )


def test_runs_assign_their_fields_themselves() -> None:
    """What a run knows changes in its own methods only."""
    fields = fields_of_runs()
    assert {"known", "_instruction", "_is_requested"} <= fields
    assert_none(
        fault
        for path in MODULES
        for fault in faults_of_runs(name_of(path), tree_of(path), fields)
    )


def test_a_try_has_few_mutable_fields() -> None:
    """Four: its store, its instruction, its stop, and whether all is done."""
    assigned = {
        found.field
        for path in DECLARATIONS
        for found in assignments_in(name_of(path), tree_of(path))
        if found.class_name == TryRunner.__name__
        and found.owner == "self"
        and found.method != "__init__"
    }
    assert 0 < len(assigned) <= MAX_MUTABLE_FIELDS, sorted(assigned)


@pytest.mark.parametrize(
    "statement",
    [
        "self.summary = 1",
        "self.summary += 1",
        "del self.summary",
        "setattr(self, name, 1)",
        "object.__setattr__(self, name, 1)",
        "vars(self)['summary'] = 1",
        "self.__dict__['summary'] = 1",
        "(self.one, other) = pair",
        "run.task.retries = 1",
        "run.known = 1",
        "current_run._instruction = None",
        "from polysync_airflow import hooks",
    ],
)
def test_faults_are_seen(statement: str) -> None:
    """Each of these in a method of an operator is a fault."""
    text = f"class NewOperator:\n    def execute(self, run):\n        {statement}\n"
    tree = ast.parse(text)
    faults = [
        *faults_of_tasks("operators.new", tree),
        *faults_of_runs("operators.new", tree, fields_of_runs()),
        *faults_of_imports("operators.new", tree),
    ]
    assert len(faults) == 1
