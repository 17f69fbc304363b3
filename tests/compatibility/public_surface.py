"""
What users see of the packages, as one text: names with their signatures, stored shapes,
errors, commands.

``python -m tests.compatibility.public_surface`` writes it to ``public_surface.txt``,
with which the test compares it: a change of what users see is a decision, not an
accident.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Final
from unittest import mock

from pydantic import BaseModel

from polysync_airflow import start_in_triggerer, triggers
from polysync_airflow.cli import main as command_line
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.execution.outcome import RunSummary
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.jobs.catalogue import CatalogueJob

GOLDEN: Final = Path(__file__).with_suffix(".txt")
ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = (ROOT / "polysync_airflow", ROOT / "emulator" / "sagemaker_emulator")
MODULES: Final = (
    "operators",
    "sensors",
    "triggers",
    "start_in_triggerer",
    "hooks",
    "events",
    "dags",
    "jobs",
    "links",
    "notifications",
    "states",
    "exceptions",
    "testing.plugin",
)
HOOK: Final = "PolysyncSageMakerHook"
# What Airflow's database, XComs and the users' files hold.
SHAPES: Final[tuple[type[BaseModel], ...]] = (
    RunSummary,
    ExecutionRecord,
    StartRequest,
    ExecutionEvent,
    CatalogueJob,
)
COMMANDS: Final = (
    "",
    "jobs",
    "jobs import",
    "jobs diff",
    "check",
    "executions",
    "executions list",
    "executions show",
    "executions stop",
    "executions watch",
    "iam",
    "iam policy",
    "iam trust",
    "records",
    "verify",
    "emulator",
)
# An address in the text of a default value.
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")


def surface() -> str:
    """Return the text."""
    parts = [
        *(_module(name) for name in MODULES),
        _triggers(),
        *(_shape(model) for model in SHAPES),
        _section(
            "provider info", json.dumps(_without_version(get_provider_info()), indent=1)
        ),
        _section("errors", "\n".join(sorted(set(_errors())))),
        *(_section(f"polysync {command}", _help(command)) for command in COMMANDS),
    ]
    return "\n".join(parts)


def _section(title: str, text: str) -> str:
    return f"==== {title}\n{text.rstrip()}\n"


def _without_version(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key != "versions"}


def _module(name: str) -> str:
    module = importlib.import_module(f"polysync_airflow.{name}")
    names = getattr(module, "__all__", None) or sorted(
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    )
    return _section(
        f"polysync_airflow.{name}",
        "\n".join(line for key in names for line in _describe(key, module)),
    )


def _describe(name: str, module: Any) -> Iterator[str]:
    value = getattr(module, name)
    if not isinstance(value, type):
        yield f"{name}{_signature(value)}"
        return
    bases = [
        base.__name__ for base in value.__mro__[1:] if hasattr(module, base.__name__)
    ]
    yield f"class {name}({', '.join(bases)}){_signature(value)}"
    for fields in (
        "template_fields",
        "template_fields_renderers",
        "operator_extra_links",
    ):
        if hasattr(value, fields) and not isinstance(getattr(value, fields), property):
            content = getattr(value, fields)
            plain = (
                content
                if isinstance(content, dict)
                else [getattr(each, "name", each) for each in content]
            )
            yield f"    {fields} = {plain}"
    own = [
        base for base in value.__mro__ if base.__module__.startswith("polysync_airflow")
    ]
    for key in sorted({key for base in own for key in vars(base)}):
        # Of a task, the methods in which Airflow's database says that it is resumed; of
        # a hook, all.
        if callable(getattr(value, key)) and key.startswith(
            ("execute", "poke") if name != HOOK else tuple(ascii_lowercase)
        ):
            yield f"    {key}{_signature(getattr(value, key))}"


def _signature(value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return f" = {value!r}"
    text = "\n".join(
        f"        {parameter}"
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    )
    returns = (
        ""
        if signature.return_annotation is signature.empty
        else f" -> {signature.return_annotation}"
    )
    return _ADDRESS.sub("", f":\n{text}{returns}" if text else f"(){returns}")


def _triggers() -> str:
    lines = []
    for module in (triggers, start_in_triggerer):
        for name in module.__all__:
            parameters = inspect.signature(getattr(module, name).__init__).parameters
            names = [each for each in parameters if each not in ("self", "kwargs")]
            lines.append(f"{module.__name__}.{name}: {', '.join(names)}")
    return _section("stored triggers", "\n".join(lines))


def _shape(model: type[BaseModel]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: plain(each)
                for key, each in value.items()
                if key not in ("title", "description")
            }
        return [plain(each) for each in value] if isinstance(value, list) else value

    schema = plain(model.model_json_schema())
    shapes = {model.__name__: schema, **schema.pop("$defs", {})}
    lines = [
        f"{name}.{field}: {json.dumps(value, sort_keys=True)}"
        for name, shape in shapes.items()
        for field, value in shape.get("properties", shape).items()
    ]
    return _section(f"shape {model.__name__}", "\n".join(lines))


def _errors() -> Iterator[str]:
    """
    Yield the texts of the errors that the packages raise or return. What is inserted is
    ``{}``.
    """
    for path in (path for package in PACKAGES for path in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                text = _text(node.args[0])
                if name == "invalid_argument":
                    name = "ParametersError"
                    text += f" = {{}} is not valid: {_text(node.args[2])}."
                if name.endswith(("Error", "ArgumentTypeError")) and text.strip("{} "):
                    yield f"{name}: {text}"


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(each) for each in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "{}"


def _help(command: str) -> str:
    output = io.StringIO()
    plain = {"NO_COLOR": "1", "COLUMNS": "100", "TERM": "dumb"}
    with (
        mock.patch.dict(os.environ, plain),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        command_line([*command.split(), "--help"])
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


if __name__ == "__main__":
    GOLDEN.write_text(surface())
