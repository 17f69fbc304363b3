#!/usr/bin/env bash
# Uses a queue with the AWS CLI. test_clients runs it.
#
# Its argument is the program aws. It prints its results as JSON.
set -euo pipefail
aws=$1

if "$aws" sqs list-queues > /dev/null 2>&1; then
    echo "The AWS CLI has used AWS_ENDPOINT_URL for SQS" >&2
    exit 1
fi
queue=$("$aws" sqs create-queue --endpoint-url "$AWS_ENDPOINT_URL" --queue-name demo --output text --query QueueUrl)
"$aws" sqs send-message --endpoint-url "$AWS_ENDPOINT_URL" --queue-url "$queue" --message-body hello > /dev/null
body=$("$aws" sqs receive-message --endpoint-url "$AWS_ENDPOINT_URL" --queue-url "$queue" --query 'Messages[].Body')
echo "{\"body\": $body}"
