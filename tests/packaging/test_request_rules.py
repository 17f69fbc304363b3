"""
The rules for requests of jobs, of which each of the two distributions has a copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import jmespath
import pytest

import polysync_airflow.hooks.request_rules
import sagemaker_emulator.sagemaker.request_rules
from polysync_airflow.hooks.request_rules import request_rules

COPIES = (
    Path(polysync_airflow.hooks.request_rules.__file__),
    Path(sagemaker_emulator.sagemaker.request_rules.__file__),
)


@pytest.mark.parametrize("suffix", [".py", ".toml"])
def test_copies_are_the_same(suffix: str) -> None:
    """What the operator refuses is what the emulator refuses."""
    first, second = (path.with_suffix(suffix).read_bytes() for path in COPIES)
    assert first == second


def test_rules_are_about_members_of_structures() -> None:
    """Each structure exists in botocore, and has the members that an error names."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    for structure, rules in request_rules().items():
        shape: Any = model.shape_for(structure)
        for rule in rules:
            jmespath.compile(rule["fault"])
            for path in rule["members"]:
                assert path.replace("[", ".").partition(".")[0] in shape.members, rule
