"""
The printed policy allows each action for the narrowest resources that AWS has for it.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import distribution
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.auth import iam_policies
from tests.unit.auth.sign_in.conftest import ACCOUNT

# cfn-lint has a copy of AWS's reference, which its releases renew:
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
# Each process of the tests would pay for its import, half a second of CPU.
_POLICIES = distribution("cfn-lint").locate_file(
    "cfnlint/data/AdditionalSpecs/Policies.json"
)
REFERENCE = json.loads(Path(str(_POLICIES)).read_text())
# They are for some sixty other types of resources, too.
OF_PIPELINES = ("sagemaker:AddTags", "sagemaker:ListTags")
REGION = f"us-east-1:{ACCOUNT}"
QUEUE = f"arn:aws:sqs:{REGION}:approvals"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Execution"
USER = f"arn:aws:iam::{ACCOUNT}:user/airflow"
# The ARNs of each type, other than those of SageMaker that have their type in them.
ARNS = {
    "log-group": f"arn:aws:logs:{REGION}:log-group:/aws/sagemaker/\\*",
    "log-stream": f"arn:aws:logs:{REGION}:log-group:/aws/sagemaker/\\*:log-stream:\\*",
    "model-package": f"arn:aws:sagemaker:{REGION}:model-package/([Cc]hurn/)?\\*",
    "object": "arn:aws:s3:::ml-bucket/eval/\\*",
    "pipeline": f"arn:aws:sagemaker:{REGION}:pipeline/[^/]+",
    "pipeline-execution": f"arn:aws:sagemaker:{REGION}:pipeline/[^/]+/execution/\\*",
    "queue": QUEUE,
    "role": ROLE,
    "user": USER,
}
# The arguments of the policy, each with the value that an option gives it.
OPTIONS: dict[str, Any] = {
    "pipelines": ["Churn"],
    "make_pipelines": ["Daily", None],
    "pass_roles": [ROLE],
    "property_files": ["s3://ml-bucket/eval/"],
    "model_package_groups": ["Churn"],
    "approve_models": True,
    "callback_queues": [QUEUE],
    "optional": False,
    "verify": True,
    "simulate_policy": [USER],
}


# What a policy allows with an option, and not without it.
ADDED = {
    "pass_roles": {"iam:PassRole"},
    "property_files": {"s3:GetObject"},
    "model_package_groups": {
        "sagemaker:DescribeModelPackage",
        "sagemaker:ListModelPackages",
    },
    "callback_queues": {
        "sagemaker:SendPipelineExecutionStepFailure",
        "sagemaker:SendPipelineExecutionStepSuccess",
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
    },
    "simulate_policy": {"iam:SimulatePrincipalPolicy"},
}


def types_of(action: str) -> set[str]:
    """Return the types of the resources that an action has."""
    if action in OF_PIPELINES:
        return {"pipeline"}
    service, _, name = action.partition(":")
    return {*REFERENCE[service]["Actions"][name.lower()].get("Resources", ())}


def pairs(**options: Any) -> set[tuple[str, str]]:
    """Return the actions that a policy allows, each with its resources."""
    policy = iam_policies.identity_policy(
        account=ACCOUNT, region="us-east-1", **options
    )
    return {
        pair
        for statement in policy["Statement"]
        for pair in product(statement["Action"], statement["Resource"])
    }


VARIANTS = [
    {
        name: OPTIONS[name]
        for name, is_given in zip(OPTIONS, given, strict=True)
        if is_given
    }
    for given in product([False, True], repeat=len(OPTIONS))
]


def test_each_action_has_the_narrowest_resources_in_all_variants() -> None:
    """An action has resources of its own types only, and ``*`` only if it has none."""
    allowed = {pair for options in VARIANTS for pair in pairs(**options)}

    wider = [
        (action, resource)
        for action, resource in allowed
        if not any(
            re.fullmatch(
                ARNS.get(kind, f"arn:aws:sagemaker:{REGION}:{kind}/\\*"), resource
            )
            for kind in types_of(action)
        )
    ]
    assert wider == [("sagemaker:ListPipelines", "*")]


def test_policy_names_only_the_pipelines_that_are_named() -> None:
    """With names or for ``polysync verify``, no statement is for all pipelines."""
    everything = {"pipeline/*", "pipeline/*/execution/*"}

    for options in VARIANTS:
        names = {arn.partition(f"{REGION}:")[2] for _, arn in pairs(**options)}
        is_named = bool({"pipelines", "make_pipelines", "verify"} & {*options})
        assert (names & everything == set()) is is_named
        is_verified = "pipeline/polysync-verify-*" in names
        assert is_verified is ("verify" in options)


def test_policy_for_verify_allows_nothing_else() -> None:
    """Without an option, it names neither jobs nor logs, and asks IAM for nothing."""
    allowed = pairs(verify=True, pass_roles=[ROLE])

    resources = {resource for _, resource in allowed}
    made = f"arn:aws:sagemaker:{REGION}:pipeline/polysync-verify-*"
    assert resources == {"*", made, f"{made}/execution/*", ROLE}
    changes = {action for action, _ in allowed} - {action for action, _ in pairs()}
    names = (
        "AddTags",
        "CreatePipeline",
        "DeletePipeline",
        "ListTags",
        "UpdatePipeline",
    )
    assert changes == {"iam:PassRole", *(f"sagemaker:{name}" for name in names)}


def test_policy_for_made_pipelines_is_for_these_and_their_role() -> None:
    """Nothing else can be created, updated, run or passed."""
    allowed = pairs(make_pipelines=[None], pass_roles=[ROLE], optional=False)

    own = f"arn:aws:sagemaker:{REGION}:pipeline/airflow-*"
    of_pipelines = (*iam_policies.PIPELINE_OPERATIONS, *iam_policies.MAKE_OPERATIONS)
    of_executions = iam_policies.EXECUTION_OPERATIONS
    assert allowed == {
        ("sagemaker:ListPipelines", "*"),
        *((f"sagemaker:{name}", own) for name in of_pipelines),
        *((f"sagemaker:{name}", f"{own}/execution/*") for name in of_executions),
        ("iam:PassRole", ROLE),
    }


@pytest.mark.parametrize("option", ADDED)
def test_option_adds_only_its_own_actions(option: str) -> None:
    """Nothing of it is allowed without the option."""
    added = pairs(**{option: OPTIONS[option]}) - pairs()

    assert {action for action, _ in added} == ADDED[option]


def test_required_permissions_are_the_fewest() -> None:
    """Without what the provider works without."""
    allowed = {action for action, _ in pairs(optional=False, callback_queues=[QUEUE])}

    sagemaker = (
        *iam_policies.LIST_OPERATIONS,
        *iam_policies.REQUIRED_OPERATIONS,
        *iam_policies.ANSWER_OPERATIONS,
    )
    assert allowed == {
        *(f"sagemaker:{operation}" for operation in sagemaker),
        *(f"sqs:{operation}" for operation in iam_policies.QUEUE_OPERATIONS),
    }


def test_role_is_passed_to_sagemaker_only() -> None:
    """Otherwise another service could be given the role."""
    statement = iam_policies.identity_policy(pass_roles=[ROLE])["Statement"][-1]

    service = {"iam:PassedToService": "sagemaker.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": service}
