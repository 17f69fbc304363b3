"""
Runs a pipeline with boto3. ``test_clients`` runs it.

Its argument is a file with a definition. It prints its results as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import sleep

import boto3
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
NAME = "Demo"


def main(definition: Path) -> None:
    """Create a pipeline, let an execution succeed and one fail, and stop one."""
    client = boto3.client("sagemaker")
    created = client.create_pipeline(
        PipelineName=NAME,
        PipelineDefinition=definition.read_text(),
        RoleArn=ROLE,
        ClientRequestToken="1" * 32,
    )

    def start(**parameters: str) -> str:
        values = [{"Name": name, "Value": value} for name, value in parameters.items()]
        response = client.start_pipeline_execution(
            PipelineName=NAME, PipelineParameters=values
        )
        return str(response["PipelineExecutionArn"])

    def statuses() -> list[str]:
        response = client.list_pipeline_executions(
            PipelineName=NAME, SortOrder="Ascending"
        )
        return [
            entry["PipelineExecutionStatus"]
            for entry in response["PipelineExecutionSummaries"]
        ]

    def steps(arn: str) -> list[dict[str, str]]:
        pages = client.get_paginator("list_pipeline_execution_steps").paginate(
            PipelineExecutionArn=arn,
            SortOrder="Ascending",
            PaginationConfig={"PageSize": 1},
        )
        return [step for page in pages for step in page["PipelineExecutionSteps"]]

    succeeded, failed, stopped = start(Score="0.9"), start(Score="0.1"), start()
    client.stop_pipeline_execution(PipelineExecutionArn=stopped)
    try:
        refused = start(Nonsense="x")
    except ClientError as error:
        refused = error.response["Error"]["Code"]
    while {"Executing", "Stopping"} & set(statuses()):
        sleep(0.5)
    results = {
        "created": created["PipelineArn"],
        "statuses": statuses(),
        "steps": [step["StepName"] for step in steps(succeeded)],
        "reasons": [
            step["FailureReason"] for step in steps(failed) if "FailureReason" in step
        ],
        "refused": refused,
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
