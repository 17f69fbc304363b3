"""The training jobs of the chaos suite, with boto3. These tests start no Airflow."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.chaos.compared import TRAINING_JOB
from tests.chaos.deployment.training_jobs import CREATE, TrainingJobs
from tests.system.emulator_process import REGION

pytestmark = pytest.mark.nightly
LATER = "a-1764000000"


def test_jobs() -> None:
    """
    A name is used once; a job can be stopped until its end; the jobs and calls of a run
    are found, also those of a name with a time.
    """
    with TrainingJobs() as jobs:
        client: Any = boto3.client(
            "sagemaker",
            region_name=REGION,
            endpoint_url=jobs.endpoint_url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )

        def refusal(call: Any, name: str, **members: Any) -> tuple[str, str]:
            with pytest.raises(ClientError) as caught:
                call(TrainingJobName=name, **members)
            error = caught.value.response["Error"]
            return error["Code"], error["Message"]

        jobs.seconds = {"a": 1e6, "b": 0.0}
        missing = refusal(client.describe_training_job, "a")
        for name in ("a", LATER, "b"):
            client.create_training_job(TrainingJobName=name, **TRAINING_JOB)
        again = refusal(client.create_training_job, "a", **TRAINING_JOB)
        client.stop_training_job(TrainingJobName="a")
        ended = refusal(client.stop_training_job, "b")

        assert missing == ("ValidationException", "Requested resource not found.")
        assert again[0] == "ResourceInUse"
        assert ended[0] == "ValidationException"
        assert "status Completed" in ended[1]
        statuses = [each["TrainingJobStatus"] for each in jobs.of("a")]
        assert statuses == ["Stopping", "InProgress"]
        (done,) = jobs.of("b")
        assert done["TrainingEndTime"] == done["CreationTime"]
        assert [call["status"] for call in jobs.calls("a", CREATE)] == [200, 200, 400]
