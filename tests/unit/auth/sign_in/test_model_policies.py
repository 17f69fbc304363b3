"""
The policy for the approval of models: what it is enough for, and what it does not
allow.
"""

from __future__ import annotations

import pytest

from polysync_airflow.cli import main
from polysync_airflow.exceptions import ACCESS_DENIED, SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.sensors import PolysyncModelApprovalSensor
from tests.tasks import run_task
from tests.unit.auth.sign_in.conftest import ACCOUNT, Account, grant
from tests.unit.auth.sign_in.test_permissions import printed_document

POLICY = ("policy", "--account", ACCOUNT, "--region", "us-east-1", "--required-only")
CHANGES = {
    "approve": {"ModelApprovalStatus": "Approved"},
    "reject": {"ModelApprovalStatus": "Rejected", "ApprovalDescription": "biased"},
    "take back": {"ModelApprovalStatus": "PendingManualApproval"},
    "describe": {"ApprovalDescription": "biased"},
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], set()),
        (["--approve-models"], {("Churn", "approve"), ("Churn", "reject")}),
    ],
)
def test_policy_is_enough_for_its_group_only(
    user: Account, options: list[str], expected: set[tuple[str, str]]
) -> None:
    """
    A sensor can wait with it. Only with --approve-models can the identity approve and
    reject, in this group alone, and change nothing else.
    """
    hook = PolysyncSageMakerHook()
    client = user.client("sagemaker")
    arns = {}
    for group in ("Churn", "Fraud"):
        client.create_model_package_group(ModelPackageGroupName=group)
        created = client.create_model_package(
            ModelPackageGroupName=group, ModelApprovalStatus="Approved"
        )
        arns[group] = created["ModelPackageArn"]
    grant(user, printed_document(*POLICY, "--model-package-group", "Churn", *options))

    waited = run_task(
        PolysyncModelApprovalSensor(task_id="t", model_package_group="Churn")
    )
    other = run_task(
        PolysyncModelApprovalSensor(task_id="t", model_package_group="Fraud")
    )

    assert waited.result == arns["Churn"]
    assert isinstance(other.error, SageMakerApiError)
    assert "sagemaker:ListModelPackages on " in str(other.error)
    assert "model-package/Fraud/*" in str(other.error)
    granted = {
        (group, change)
        for group in arns
        for change, members in CHANGES.items()
        if _can_update(hook, arns[group], members)
    }
    assert granted == expected


def _can_update(hook: PolysyncSageMakerHook, arn: str, members: dict[str, str]) -> bool:
    try:
        hook.call("UpdateModelPackage", ModelPackageArn=arn, **members)
    except SageMakerApiError as error:
        if error.error_code != ACCESS_DENIED:
            raise
        return False
    return True


def test_approval_needs_a_group(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing about models is allowed unless a group is named."""
    with pytest.raises(SystemExit):
        main(["iam", *POLICY, "--approve-models"])

    problem = "--approve-models needs --model-package-group"
    assert problem in capfd.readouterr().err
    main(["iam", *POLICY])
    assert "Model" not in capfd.readouterr().out
