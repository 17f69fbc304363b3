"""
An execution with a callback step, the queue of the step, and tasks that answer it.
"""

from __future__ import annotations

import json
from typing import Any

import moto.sqs.models
import pytest

from polysync_airflow.operators import PolysyncCallbackStepOperator
from polysync_airflow.operators import callback_messages as messages
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, Run, TaskInstance, run_task
from tests.unit.events.conftest import client
from tests.world import World

STEP = "WaitForApproval"
# When the step of the example begins, in seconds after the start of the execution.
BEGINS_AFTER = 19.0
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/approvals"
DEAD_LETTERS = "arn:aws:sqs:us-east-1:123456789012:dead"
SUCCESS = "SendPipelineExecutionStepSuccess"
FAILURE = "SendPipelineExecutionStepFailure"


class Pipeline:
    """
    An execution of the example pipeline, whose callback step gets the argument
    ``ticket``.

    :param arn: the execution.
    """

    def __init__(self, emulator: EmulatorServer, time: EmulatedTime) -> None:
        self.emulator, self.time = emulator, time
        self.sagemaker = client(emulator, "sagemaker")
        self.sqs = client(emulator, "sqs")
        self.arn = ""
        self.start(Notify={"outputs": {"ticket": "T-1"}})

    def start(self, **steps: Any) -> None:
        """Start an execution whose steps behave in the given way."""
        self.emulator.control.put_scenario({"steps": steps}, pipeline="callback-lambda")
        response = self.sagemaker.start_pipeline_execution(
            PipelineName="callback-lambda",
            PipelineParameters=[{"Name": "Approver", "Value": "me"}],
        )
        self.arn = str(response["PipelineExecutionArn"])

    def begin_step(self) -> str:
        """Let the time pass until the callback step runs, and return its token."""
        self.time.sleep(BEGINS_AFTER)
        return str(self.step()["Metadata"]["Callback"]["CallbackToken"])

    def step(self) -> Any:
        """Return the callback step, as AWS lists it."""
        steps = self.sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=self.arn
        )
        return next(
            each for each in steps["PipelineExecutionSteps"] if each["StepName"] == STEP
        )

    def status(self) -> str:
        """Return the status of the execution."""
        described = self.sagemaker.describe_pipeline_execution(
            PipelineExecutionArn=self.arn
        )
        return str(described["PipelineExecutionStatus"])

    def stop(self) -> None:
        """Request a stop of the execution."""
        self.sagemaker.stop_pipeline_execution(
            PipelineExecutionArn=self.arn, ClientRequestToken="s" * 32
        )

    def answers(self) -> list[tuple[str, Any]]:
        """
        Return the answers that had an effect: operation, and output parameters or
        reason.
        """
        found = {}
        for call in self.emulator.control.calls():
            if call["operation"] in (SUCCESS, FAILURE) and call["error_code"] is None:
                request = call["request"]
                outputs = {
                    each["Name"]: each["Value"]
                    for each in request.get("OutputParameters", ())
                }
                content = (
                    outputs
                    if call["operation"] == SUCCESS
                    else request["FailureReason"]
                )
                found[request["ClientRequestToken"]] = call["operation"], content
        return list(found.values())

    def answer(self, function: Any, *, try_number: int = 1, **arguments: Any) -> Run:
        """Run a task that answers the callback step."""
        own = {"execution_arn": self.arn, "step_name": STEP, "poll_interval": 10}
        operator = PolysyncCallbackStepOperator(
            task_id="answer", python_callable=function, **{**own, **arguments}
        )
        ti = TaskInstance("answer", try_number=try_number, max_tries=1)
        return run_task(operator, ti)

    def create_queue(self, max_receives: int) -> None:
        """
        Create the queue of the step, with the dead-letter queue ``dead``, before the
        step begins.
        """
        self.sqs.create_queue(QueueName="dead")
        policy = {"deadLetterTargetArn": DEAD_LETTERS, "maxReceiveCount": max_receives}
        self.sqs.create_queue(
            QueueName="approvals", Attributes={"RedrivePolicy": json.dumps(policy)}
        )

    def messages(self, queue: str = "approvals") -> list[str]:
        """
        Return the bodies of the messages in a queue, also of those that are hidden.
        """
        queues = moto.sqs.models.sqs_backends["123456789012"]["us-east-1"].queues
        return (
            [message.body for message in queues[queue]._messages]
            if queue in queues
            else []
        )

    def receive(self) -> list[Any]:
        """Receive all messages that are not hidden, as another consumer does."""
        return list(
            self.sqs.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10).get(
                "Messages", ()
            )
        )

    def send(self, body: Any) -> None:
        """Send a message to the queue."""
        self.sqs.send_message(
            QueueUrl=QUEUE,
            MessageBody=body if isinstance(body, str) else json.dumps(body),
        )


@pytest.fixture
def pipeline(world: World) -> Pipeline:
    """
    Start an execution. Messages are hidden by the emulated time, and a queue responds
    at once.
    """
    world.patch.setattr(
        moto.sqs.models, "unix_time_millis", lambda *_: world.time.time() * 1000
    )
    world.patch.setattr(moto.sqs.models, "unix_time", lambda *_: world.time.time())
    world.patch.setattr(messages, "POLL_SECONDS", 0)
    return Pipeline(world.emulator, world.time)
