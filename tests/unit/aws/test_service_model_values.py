"""AWS's service model in botocore has the values that the pure core decides by."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import Session

from polysync_airflow.execution.steps.descriptions import STEP_KINDS
from tests.unit.execution.test_approval import APPROVALS, STATUSES


@pytest.fixture(scope="module")
def service_model() -> Any:
    """Return the service model of SageMaker."""
    return Session().get_service_model("sagemaker")


def test_statuses_of_model_packages_are_those_of_botocore(service_model: Any) -> None:
    """A new status of AWS's fails this test."""
    enums = {
        name: set(service_model.shape_for(name).metadata["enum"])
        for name in ("ModelPackageStatus", "ModelApprovalStatus")
    }

    assert enums["ModelPackageStatus"] == set(STATUSES) - {"Archived"}
    assert enums["ModelApprovalStatus"] == {each for each in APPROVALS if each} - {
        "Perhaps"
    }


def test_every_kind_of_step_is_in_the_table(service_model: Any) -> None:
    """
    Each has a page or a reason why not, and the members from which its job is read.
    """
    metadata = service_model.shape_for("PipelineExecutionStepMetadata")
    unknown = metadata.members.keys() - STEP_KINDS.keys()
    assert not unknown, (
        "botocore has kinds of steps that are not in execution/steps/kinds.toml:"
        f" {', '.join(unknown)}. Add them there, to the table in"
        " docs/reference/xcoms.md, and to engine/durations.py of the emulator."
    )
    for name, shape in metadata.members.items():
        kind = STEP_KINDS[name]
        assert (kind.page is None) != (kind.no_page is None), (
            f"{name} needs either page or no_page"
        )
        if kind.page or kind.log_group:
            assert (kind.id_member or kind.job_member) in shape.members, name
        assert kind.id_member is None or kind.id_member in shape.members, name
        assert "Arn" not in shape.members or kind.job_member == "Arn", name
