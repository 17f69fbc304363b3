"""``polysync jobs diff``: the exit code, the table and the JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer, Limits
from tests.unit.cli.conftest import Polysync
from tests.unit.jobs.catalogue.builders import STEPS, delete_pipelines, put_pipelines

TIER: dict[str, Any] = {"Name": "Tier", "Type": "String", "DefaultValue": "gold"}
TIER["EnumValues"] = ["gold", "silver"]
COUNT = {"Name": "Count", "Type": "Integer"}
PIPELINE = {"Version": "2020-12-01", "Parameters": [TIER, COUNT], "Steps": STEPS}
DIFFERENCES = """\
abalone |  | pipeline_removed | the pipeline does not exist any more | yes
churn-daily | Count | parameter_removed | the parameter does not exist any more; it was Integer | yes
churn-daily | Tier | default_removed | the default was gold; a value is required now | yes
churn-daily | Tier | enum_changed | the allowed values were ["gold", "silver"], and are ["gold"] | yes
"""


@pytest.fixture
def catalogue(jobs: Polysync, emulator: EmulatorServer, tmp_path: Path) -> Path:
    """Return a catalogue of the pipelines that the emulator has."""
    put_pipelines(emulator, {"churn-daily": PIPELINE})
    path = tmp_path / "jobs.yaml"
    assert jobs("import", path).code == 0
    return path


def change(emulator: EmulatorServer, **members: Any) -> None:
    """Change the definition of ``churn-daily``."""
    put_pipelines(emulator, {"churn-daily": {**PIPELINE, **members}}, update=True)


def test_no_drift_has_exit_code_0(catalogue: Path, jobs: Polysync) -> None:
    """If nothing has changed, the exit code is 0 and the table is left out."""
    result = jobs("diff", catalogue)

    assert result.code == 0
    assert result.out == ""
    assert result.error == f"{catalogue}: no drift; 6 pipelines compared"


def test_drift_is_a_table(
    catalogue: Path, jobs: Polysync, emulator: EmulatorServer
) -> None:
    """Each difference is a row of the table, and the exit code is 1."""
    without_default = {"Name": "Tier", "Type": "String", "EnumValues": ["gold"]}
    change(emulator, Parameters=[without_default])
    delete_pipelines(emulator, "abalone")

    result = jobs("diff", catalogue)

    assert result.code == 1
    lines = [line for line in result.out.splitlines() if "│" in line]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert [" | ".join(row) for row in rows] == DIFFERENCES.splitlines()
    assert result.error == f"{catalogue}: 4 differences; 5 pipelines compared"


def test_drift_is_one_json_document(
    catalogue: Path, jobs: Polysync, emulator: EmulatorServer
) -> None:
    """With --output json, stdout is one JSON document."""
    change(emulator, Parameters=[{**TIER, "DefaultValue": "silver"}])

    result = jobs("diff", catalogue, "--output", "json")

    assert result.code == 1
    document = result.document
    removed, changed = document.pop("changes")
    rest = {"version": 1, "drift": True, "compared": 6, "not_compared": []}
    assert document == rest
    assert (removed["parameter"], removed["breaking"]) == ("Count", True)
    assert (changed["kind"], changed["after"]) == ("default_changed", "silver")


def test_change_of_the_steps_is_drift_if_strict(
    catalogue: Path, jobs: Polysync, emulator: EmulatorServer
) -> None:
    """
    A definition that has changed without its parameters is shown, and fails only with
    --strict.
    """
    change(emulator, Steps=[{**STEPS[0], "Name": "Another"}])

    usual = jobs("diff", catalogue)
    strict = jobs("diff", catalogue, "--strict")

    assert usual.code == 0
    assert strict.code == 1
    assert "│ Another" in usual.out
    assert "step_added" in usual.out
    assert "no drift" in usual.err
    assert "2 differences;" in strict.err


def test_prefix_limits_the_comparison(
    catalogue: Path, jobs: Polysync, emulator: EmulatorServer
) -> None:
    """Other jobs of the file are not missing, and other pipelines are not new."""
    delete_pipelines(emulator, "abalone")
    put_pipelines(emulator, {"other": PIPELINE})

    assert jobs("diff", catalogue, "--prefix", "churn-").code == 0
    assert jobs("diff", catalogue).code == 1


def test_names_are_texts_and_no_markup(
    catalogue: Path,
    jobs: Polysync,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    What users have written into a definition changes neither the colours nor the links
    of a terminal.
    """
    evil = {
        "Name": "[red]P[/red]",
        "Type": "String",
        "DefaultValue": "[link=https://x.example]\x1b[2Jx[/link]",
    }
    monkeypatch.setattr(emulator.sagemaker, "limits", Limits(lenient=True))
    change(emulator, Parameters=[evil])

    result = jobs("diff", catalogue, "--prefix", "churn-daily")

    assert "[red]P[/red]" in result.out
    assert "[link=https://x.example]" in result.out
    assert "\x1b" not in result.out + result.err


def test_file_is_read_before_aws_is_called(
    jobs: Polysync, tmp_path: Path, emulator: EmulatorServer
) -> None:
    """A file that does not exist is an error of one line, without any call."""
    result = jobs("diff", tmp_path / "none.yaml")

    path = tmp_path / "none.yaml"
    assert result.refusal == f"error: {path} cannot be read: No such file or directory."
    assert emulator.control.calls() == []


def test_comparison_with_no_pipelines_is_no_success(
    catalogue: Path, jobs: Polysync, tmp_path: Path
) -> None:
    """A wrong region or prefix is named, and never exit code 0."""
    empty = tmp_path / "empty.yaml"
    empty.write_text("version: 1\njobs: []\n")

    region = jobs("diff", catalogue, "--region", "eu-central-1")
    to_json = ("--region", "eu-central-1", "--output", "json")
    nothing = jobs("diff", empty, *to_json)
    prefix = jobs("diff", catalogue, "--prefix", "typo-")

    assert region.code == 1
    no_pipelines = "there are no pipelines in region eu-central-1 (--prefix '')"
    assert f"warning: {no_pipelines}\n" in region.err
    assert region.error == f"{catalogue}: 6 differences; 0 pipelines compared"
    assert nothing.code == 2
    assert nothing.document["compared"] == 0
    assert nothing.error == f"{empty}: nothing to compare; 0 pipelines compared"
    no_pipeline = "there is no such pipeline in region us-east-1."
    assert f"'typo-': {no_pipeline} Pipelines there: abalone, " in prefix.refusal
