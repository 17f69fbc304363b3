"""The definitions of pipelines that the package ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polysync_airflow.execution.pipelines import declared_steps
from sagemaker_emulator import EXAMPLE_DEFINITIONS


@pytest.mark.parametrize(
    "path", sorted(EXAMPLE_DEFINITIONS.glob("*.json")), ids=lambda path: path.stem
)
def test_property_files_are_in_outputs_of_their_jobs(path: Path) -> None:
    """So they can be read from S3."""
    text = path.read_text()
    steps = {step["Name"]: step for step in json.loads(text)["Steps"]}
    for declared in declared_steps(text):
        for file in declared.property_files:
            outputs = steps[declared.name]["Arguments"]["ProcessingOutputConfig"][
                "Outputs"
            ]
            assert file.output in [output["OutputName"] for output in outputs]
