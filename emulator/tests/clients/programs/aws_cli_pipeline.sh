#!/usr/bin/env bash
# Runs a pipeline with the AWS CLI. test_clients runs it.
#
# Its arguments are the program aws and a file with a definition. It prints its results as JSON.
set -euo pipefail
aws=$1 definition=$2
export AWS_DEFAULT_OUTPUT=json

start() {
    "$aws" sagemaker start-pipeline-execution --pipeline-name Demo --output text --query PipelineExecutionArn "$@"
}

statuses() {
    "$aws" sagemaker list-pipeline-executions --pipeline-name Demo --sort-order Ascending \
        --query 'PipelineExecutionSummaries[].PipelineExecutionStatus'
}

steps() {
    "$aws" sagemaker list-pipeline-execution-steps --sort-order Ascending --pipeline-execution-arn "$@"
}

created=$("$aws" sagemaker create-pipeline --pipeline-name Demo --pipeline-definition "file://$definition" \
    --role-arn arn:aws:iam::123456789012:role/SageMakerRole --query PipelineArn)
succeeded=$(start --pipeline-parameters Name=Score,Value=0.9)
failed=$(start --pipeline-parameters Name=Score,Value=0.1)
stopped=$(start)
"$aws" sagemaker stop-pipeline-execution --pipeline-execution-arn "$stopped" > /dev/null
refused=$(start --pipeline-parameters Name=Nonsense,Value=x 2>&1 | sed -n 's/.*(\(.*\)) when calling.*/"\1"/p' || true)
ended=$(statuses)
while [[ $ended == *Executing* || $ended == *Stopping* ]]; do
    sleep 1
    ended=$(statuses)
done

cat << JSON
{
    "created": $created,
    "statuses": $ended,
    "steps": $(steps "$succeeded" --page-size 1 --query 'PipelineExecutionSteps[].StepName'),
    "reasons": $(steps "$failed" --query 'PipelineExecutionSteps[].FailureReason'),
    "refused": $refused
}
JSON
