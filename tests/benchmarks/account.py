"""Owns the emulated account of the benchmarks: a role, its bootstrap user, and executions to wait for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import boto3

from polysync_airflow.iam import caller_trust
from tests.emulator.builders import ROLE, definition, step
from tests.system.local_emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, LocalEmulator

PIPELINE: Final = "brief"
STARTERS: Final = 8


class Account:
    """
    An account with one pipeline, and a role that its bootstrap user may assume.

    :param emulator: where it is.
    :param seconds: how long an execution's only step takes.
    """

    def __init__(self, emulator: LocalEmulator, seconds: float) -> None:
        self._emulator = emulator
        self._sagemaker = self._client("sagemaker")
        self._sagemaker.create_pipeline(
            PipelineName=PIPELINE,
            ClientRequestToken=PIPELINE.ljust(32, "-"),
            PipelineDefinition=definition(step("Only")),
            RoleArn=ROLE,
        )
        emulator.control.put_scenario({"steps": {"Only": {"duration": seconds}}}, PIPELINE)
        iam = self._client("iam")
        iam.create_user(UserName="bootstrap")
        self._key = iam.create_access_key(UserName="bootstrap")["AccessKey"]
        trust = json.dumps(caller_trust(principal=ROLE.replace("role/SageMakerRole", "root")))
        self._role_arn = iam.create_role(RoleName="polysync", AssumeRolePolicyDocument=trust)["Role"]["Arn"]

    @property
    def connections(self) -> dict[str, str]:
        """An Airflow connection for each provider, as environment variables; both assume the role."""
        here, role = self._emulator.endpoint_url, {"region_name": REGION, "role_arn": self._role_arn}
        key = {"login": self._key["AccessKeyId"], "password": self._key["SecretAccessKey"]}
        ours = {"auth_method": "assume_role", "endpoint_url": here, "sts_endpoint_url": here}
        amazon = {"endpoint_url": here, "service_config": {"sts": {"endpoint_url": here}}}
        found = {
            "POLYSYNC_DEFAULT": {"conn_type": "polysync_sagemaker", **key, "extra": {**role, **ours}},
            "AWS_DEFAULT": {"conn_type": "aws", **key, "extra": {**role, **amazon}},
        }
        return {f"AIRFLOW_CONN_{name}": json.dumps(connection) for name, connection in found.items()}

    def start(self, count: int) -> Sequence[str]:
        """
        Start executions and return their ARNs.

        :param count: how many.
        """

        def one(_: int) -> str:
            started = self._sagemaker.start_pipeline_execution(PipelineName=PIPELINE)
            return str(started["PipelineExecutionArn"])

        with ThreadPoolExecutor(STARTERS) as pool:
            return list(pool.map(one, range(count)))

    def _client(self, service: str) -> Any:
        make: Any = boto3.client
        return make(
            service,
            region_name=REGION,
            endpoint_url=self._emulator.endpoint_url,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )
