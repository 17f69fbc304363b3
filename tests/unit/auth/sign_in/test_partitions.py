"""
The European Sovereign Cloud, whose partition is ``aws-eusc``: sign-in, a whole task,
and its links.
"""

from __future__ import annotations

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.tasks import EmulatedTime, run_task
from tests.unit.auth.sign_in.auth_methods import SUBJECT
from tests.unit.auth.sign_in.conftest import ACCOUNT, Account, SignInContext

REGION = "eusc-de-east-1"
PARTITION = "aws-eusc"
ROLE = f"arn:{PARTITION}:iam::{ACCOUNT}:role/polysync"
AUDIENCE = "sts.amazonaws.com"


def test_task_signs_in_and_runs_in_the_partition_of_its_role(
    context: SignInContext,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    It signs in with a role of the partition, and its execution and link are there.
    """
    account = Account(emulator, REGION)
    account.client("sagemaker").create_pipeline(
        PipelineName="Churn", PipelineDefinition=definition(step("A")), RoleArn=ROLE
    )
    path = context.folder / "token"
    context.cluster.project(path, context.cluster.token(SUBJECT, audience=AUDIENCE))
    account.role_for_token(context.cluster.url, AUDIENCE, SUBJECT, PARTITION)
    context.connect_file(path, region_name=REGION, role_arn=ROLE)

    run = run_task(
        PolysyncStartPipelineOperator(
            task_id="train",
            pipeline_name="Churn",
            deferrable=True,
            poll_interval=60,
        )
    )

    assert run.error is None, run.error
    arn = run.xcoms["execution_arn"]
    assert arn.startswith(
        f"arn:{PARTITION}:sagemaker:{REGION}:{ACCOUNT}:pipeline/Churn/execution/"
    )
    console = (
        f"https://{REGION}.console.amazonaws-eusc.eu/sagemaker/home?region={REGION}"
    )
    assert run.xcoms["console_url"] == f"{console}#/pipelines/Churn/executions/{arn}"
    identity = PolysyncSageMakerHook().get_caller_identity()
    assert identity["Arn"].startswith(
        f"arn:{PARTITION}:sts::{ACCOUNT}:assumed-role/polysync/"
    )
