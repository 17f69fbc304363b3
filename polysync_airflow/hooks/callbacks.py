"""
The methods of the hook for callback steps: the answers to a step, and the messages in
its queue.

No error has the token of a step, which AWS may quote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import Field, SecretStr

from polysync_airflow.auth.base_hook import Response
from polysync_airflow.aws import responses, sessions
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution import json_input, models
from polysync_airflow.execution.steps.callbacks import (
    ReceivedMessage,
    Redrive,
    answer_token,
)
from polysync_airflow.hooks.executions import HookCalls, parse

# How many messages one call receives; SQS allows no more.
MAX_MESSAGES: Final = 10


class _Failures(models.FrozenModel):
    failed: tuple[dict[str, Any], ...] = Field((), validation_alias="Failed")


class QueueMethods(HookCalls):
    """Call SQS."""

    def call_sqs(self, operation: str, **request: Any) -> Response:
        """Call an operation of SQS. The errors are those of ``call``."""
        return self._call_client(self.client_for("sqs"), operation, **request)

    def call_for_messages(
        self, operation: str, queue_url: str, receipts: Sequence[str], **members: Any
    ) -> list[dict[str, Any]]:
        """
        Call an operation of SQS for any number of messages, and return for which it has
        failed, and why.

        :param members: further members of the entry of each message.
        :raises SageMakerApiError: a call failed.
        """
        failures: list[dict[str, Any]] = []
        for begin in range(0, len(receipts), MAX_MESSAGES):
            batch = enumerate(receipts[begin : begin + MAX_MESSAGES])
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, **members}
                for number, receipt in batch
            ]
            response = self.call_sqs(operation, QueueUrl=queue_url, Entries=entries)
            failures += parse(_Failures, operation, response).failed
        return failures


class CallbackMethods(QueueMethods):
    """Answer callback steps, and receive their messages."""

    def send_pipeline_execution_step_success(
        self, token: SecretStr, outputs: Mapping[str, str]
    ) -> None:
        """
        End a callback step with success. If the same answer is sent again, AWS counts
        it once.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SendPipelineExecutionStepSuccess.html

        :param token: the callback token of the step.
        :param outputs: the output parameters: at most 50 names, and values of at most
            1,024 characters.
        :raises SageMakerApiError: the call failed, for example because the step has
            already ended.
        """
        parameters = [{"Name": name, "Value": value} for name, value in outputs.items()]
        self._answer(
            "SendPipelineExecutionStepSuccess",
            token,
            "success",
            OutputParameters=parameters,
        )

    def send_pipeline_execution_step_failure(
        self, token: SecretStr, reason: str
    ) -> None:
        """
        End a callback step with a failure. If the same answer is sent again, AWS counts
        it once.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SendPipelineExecutionStepFailure.html

        :param token: the callback token of the step.
        :param reason: the reason, of at most 256 characters, which everybody sees who
            may list the steps.
        :raises SageMakerApiError: the call failed, for example because the step has
            already ended.
        """
        self._answer(
            "SendPipelineExecutionStepFailure", token, "failure", FailureReason=reason
        )

    def _answer(
        self,
        operation: str,
        token: SecretStr,
        outcome: Literal["success", "failure"],
        **request: Any,
    ) -> None:
        secrets = {
            "CallbackToken": token,
            "ClientRequestToken": answer_token(token, outcome),
        }
        redacted = {
            name: sessions.RedactedStr(secret.get_secret_value())
            for name, secret in secrets.items()
        }
        try:
            self.call(operation, **redacted, **request)
        except SageMakerApiError as error:
            message = str(error)
            for secret in secrets.values():
                message = message.replace(secret.get_secret_value(), "***")
            raise error.with_message(message) from None

    def receive_messages(
        self, queue_url: str, *, hidden: int, wait: int
    ) -> list[ReceivedMessage]:
        """
        Receive at most ten messages of a queue.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html

        :param hidden: for how many seconds nobody else receives them.
        :param wait: how many seconds SQS waits for a message, if there is none.
        :raises SageMakerApiError: the call failed.
        """
        operation = "ReceiveMessage"
        response = self.call_sqs(
            operation,
            QueueUrl=queue_url,
            MaxNumberOfMessages=MAX_MESSAGES,
            VisibilityTimeout=hidden,
            WaitTimeSeconds=wait,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        messages = response.get("Messages") or []
        return [
            parse(ReceivedMessage, operation, message)
            for message in messages[:MAX_MESSAGES]
        ]

    def send_message_again(self, queue_url: str, message: ReceivedMessage) -> None:
        """
        Send a copy of a message to its queue, whose receives are counted from the
        beginning.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html

        :raises SageMakerApiError: the call failed.
        """
        self.call_sqs(
            "SendMessage",
            QueueUrl=queue_url,
            MessageBody=sessions.RedactedStr(message.body),
            MessageAttributes=message.attributes_of_copy,
            DelaySeconds=0,
        )

    def describe_redrive(self, queue_url: str) -> Redrive | None:
        """
        Return when SQS moves messages of a queue to a dead-letter queue; None if it has
        none.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html

        :raises SageMakerApiError: the call failed.
        """
        operation = "GetQueueAttributes"
        name = "RedrivePolicy"
        response = self.call_sqs(operation, QueueUrl=queue_url, AttributeNames=[name])
        policy = (response.get("Attributes") or {}).get(name)
        if not policy:
            return None
        try:
            content = json_input.read_json(policy, name)
        except json_input.UnreadableJsonError as error:
            raise responses.invalid_response_error(operation, str(error)) from None
        return parse(Redrive, operation, content)

    def hide_messages(
        self, queue_url: str, receipts: Sequence[str], seconds: int
    ) -> None:
        """
        Let nobody else receive messages for a number of seconds from now on; with 0,
        let others receive them.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html

        :raises SageMakerApiError: the call failed. Messages that have been deleted are
            no error.
        """
        operation = "ChangeMessageVisibilityBatch"
        self.call_for_messages(
            operation, queue_url, receipts, VisibilityTimeout=seconds
        )

    def delete_messages(self, queue_url: str, receipts: Sequence[str]) -> None:
        """
        Delete messages.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html

        :raises SageMakerApiError: the call failed. Messages that have been deleted are
            no error.
        """
        self.call_for_messages("DeleteMessageBatch", queue_url, receipts)
