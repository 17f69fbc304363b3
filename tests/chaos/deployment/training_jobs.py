"""
A SageMaker that has training jobs outside of pipelines, which the emulator has not: the
operations that the Amazon provider's operator calls, and the one that would stop a job.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopTrainingJob.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html;
the code of a job that does not exist is that by which the operator knows it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request

from sagemaker_emulator.errors import ApiError, invalid
from sagemaker_emulator.protocol import error_response, json_response, parse_request
from sagemaker_emulator.sagemaker.jobs.job import Job
from sagemaker_emulator.sagemaker.jobs.training import describe_training_job
from sagemaker_emulator.sagemaker.store import Region
from sagemaker_emulator.sagemaker.validation import check_request, service_model
from tests.system.emulator_process import REGION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HOST: Final = "127.0.0.1"
CREATE, DESCRIBE, STOP = OPERATIONS = (
    "CreateTrainingJob",
    "DescribeTrainingJob",
    "StopTrainingJob",
)
# As long as the stop of a step takes in the emulator.
STOP_SECONDS: Final = 20.0
# What the Amazon provider adds to a name that exists.
TIME: Final = re.compile(r"-\d{10}$")


@dataclass
class _Created:
    """
    A job. Times are Unix times.

    :param ends: when it ends if nobody stops it.
    """

    request: Mapping[str, Any]
    at: float
    ends: float
    stopped: float | None = None

    def job(self, region: Region) -> Job:
        """Return the job as it is now."""
        now, ended, status, after = time.time(), self.ends, "InProgress", "Completed"
        if self.stopped is not None and self.stopped < self.ends:
            ended, status = self.stopped + STOP_SECONDS, "Stopping"
            after = "Stopped"
        return Job(
            region=region,
            kind="Training",
            name=self.request["TrainingJobName"],
            arguments=self.request,
            status=after if now >= ended else status,
            created_at=self.at,
            started_at=self.at,
            ended_at=ended if now >= ended else None,
            described_at=now,
            failure_reason=None,
            metrics={},
            role_arn=self.request["RoleArn"],
        )


class TrainingJobs:
    """
    Context manager that serves training jobs, in threads of this process.

    :ivar seconds: how long a job takes, by the name that the DAG gives it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._region = Region(REGION, "chaos")
        self._created: dict[str, _Created] = {}
        self._calls: list[dict[str, Any]] = []
        self._lock = Lock()
        self._server = make_server(
            HOST, 0, self._respond, threaded=True, request_handler=_Handler
        )
        self.endpoint_url = f"http://{HOST}:{self._server.port}"

    def __enter__(self) -> TrainingJobs:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the descriptions of the jobs with a name, oldest first."""
        with self._lock:
            return [
                describe_training_job(created.job(self._region))
                for own, created in self._created.items()
                if TIME.sub("", own) == name
            ]

    def calls(self, name: str, operation: str) -> list[dict[str, Any]]:
        """Return the calls about jobs with a name, oldest first."""
        with self._lock:
            return [
                call
                for call in self._calls
                if call["operation"] == operation
                and TIME.sub("", call["request"]["TrainingJobName"]) == name
            ]

    def _respond(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        aws = parse_request(Request(environ), None)
        with self._lock:
            try:
                response = json_response(self._call(aws.operation, aws.document), "1")
            except ApiError as error:
                response = error_response(error, "json", "1")
            self._calls.append(
                {
                    "operation": aws.operation,
                    "request": aws.document,
                    "status": response.status_code,
                }
            )
        return response(environ, start_response)

    def _call(self, operation: str, document: Any) -> dict[str, Any]:
        if operation not in OPERATIONS:
            raise ApiError("UnknownOperationException", f"No {operation} here.")
        shape = service_model().operation_model(operation).input_shape
        request, _ = check_request(shape, document)
        name = request["TrainingJobName"]
        if operation == CREATE:
            return self._create(name, request)
        if name not in self._created:
            raise invalid("Requested resource not found.")
        created = self._created[name]
        job = created.job(self._region)
        if operation == DESCRIBE:
            return describe_training_job(job)
        if job.ended_at is not None:
            raise invalid(
                "The request was rejected because the training job is in status"
                f" {job.status}."
            )
        created.stopped = created.stopped or time.time()
        return {}

    def _create(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if name in self._created:
            raise ApiError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region,"
                f" and a training job with this name already exists ({name}).",
            )
        now = time.time()
        ends = now + self.seconds[TIME.sub("", name)]
        self._created[name] = _Created(request, now, ends)
        return {"TrainingJobArn": self._region.arn("training-job", name)}


class _Handler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""
