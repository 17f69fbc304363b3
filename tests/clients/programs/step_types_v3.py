"""
Prints, as JSON, three definitions for each type of step of version 3 of SageMaker's
Python SDK: of a pipeline, of the same one made again later, and of another one.

Its argument is a folder for files. ``test_sdk_definitions`` runs it.

Left out: models, which need ``ModelBuilder`` and a model of a framework; AutoML, whose
step fails in 3.27 with an AttributeError of the SDK; Job steps, which need a recipe.
"""

# The SDK is installed in that environment only.
# mypy: disable-error-code="import-not-found,untyped-decorator"

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sagemaker.core.clarify import BiasConfig, DataConfig
from sagemaker.core.helper.session_helper import get_execution_role
from sagemaker.core.lambda_helper import Lambda
from sagemaker.core.model_monitor import DatasetFormat
from sagemaker.core.parameter import ContinuousParameter
from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.transformer import Transformer
from sagemaker.core.workflow.conditions import ConditionGreaterThan
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterString
from sagemaker.core.workflow.pipeline_context import PipelineSession, _JobStepArguments
from sagemaker.mlops.workflow.callback_step import (
    CallbackOutput,
    CallbackOutputTypeEnum,
    CallbackStep,
)
from sagemaker.mlops.workflow.check_job_config import CheckJobConfig
from sagemaker.mlops.workflow.clarify_check_step import (
    ClarifyCheckStep,
    DataBiasCheckConfig,
)
from sagemaker.mlops.workflow.cleanup_step import CleanupStep, S3CleanupSource
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.emr_serverless_step import (
    EMRServerlessJobConfig,
    EMRServerlessStep,
)
from sagemaker.mlops.workflow.emr_step import EMRStep, EMRStepConfig
from sagemaker.mlops.workflow.endpoint_step import EndpointConfigStep, EndpointStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.for_each_step import CurrentItem, ForEachStep
from sagemaker.mlops.workflow.function_step import step
from sagemaker.mlops.workflow.inference_component_step import InferenceComponentStep
from sagemaker.mlops.workflow.lambda_step import LambdaOutput, LambdaStep
from sagemaker.mlops.workflow.lineage_step import LineageStep
from sagemaker.mlops.workflow.notebook_job_step import NotebookJobStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.quality_check_step import (
    DataQualityCheckConfig,
    QualityCheckStep,
)
from sagemaker.mlops.workflow.steps import (
    ProcessingStep,
    TrainingStep,
    TransformStep,
    TuningStep,
)
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, SourceCode
from sagemaker.train.tuner import HyperparameterTuner

from sagemaker_emulator.clients import RedirectedBoto3

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/churn:1"
BUCKET = "s3://sdk-bucket"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:score"
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/queue"
MACHINE = {"instance_count": 1, "instance_type": "ml.m5.large"}
NOTEBOOK = {
    "cells": [],
    "metadata": {"kernelspec": {"name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class Steps:
    """
    Makes a step of each type.

    :param score: the parameter in which pipelines differ.
    """

    def __init__(self, folder: Path, score: float) -> None:
        self.code = folder / "code"
        self.code.mkdir(exist_ok=True)
        self.script = self.code / "job.py"
        self.script.write_text("print('never run')")
        self.notebook = folder / "report.ipynb"
        self.notebook.write_text(json.dumps(NOTEBOOK))
        self.session = PipelineSession(default_bucket="sdk-bucket")
        self.role = get_execution_role()
        self.score = ParameterFloat("Score", default_value=score)
        self.source = ParameterString("Source", default_value=f"{BUCKET}/in")
        self.model = ParameterString("Model", default_value="churn")
        self.check = CheckJobConfig(role=self.role, sagemaker_session=self.session)
        self.trainer = ModelTrainer(
            training_image=IMAGE,
            source_code=SourceCode(source_dir=str(self.code), entry_script="job.py"),
            compute=Compute(**MACHINE),
            hyperparameters={"eta": self.score},
            role=self.role,
            sagemaker_session=self.session,
        )

    def definition_of(self, make: Callable[[Steps], Any]) -> str:
        """Return the definition of a pipeline with one step."""
        made = make(self)
        steps = made if isinstance(made, list) else [made]
        parameters = [self.score, self.source, self.model]
        pipeline = Pipeline(
            "Sdk", parameters, steps=steps, sagemaker_session=self.session
        )
        return str(pipeline.definition())

    def processing(self) -> Any:
        """Return a step that processes data."""
        processor = ScriptProcessor(
            role=self.role,
            image_uri=IMAGE,
            command=["python3"],
            **MACHINE,
            sagemaker_session=self.session,
        )
        request = processor.run(code=str(self.script), arguments=["--in", self.source])
        return ProcessingStep("A", step_args=request)

    def training(self) -> Any:
        """Return a step that trains."""
        return TrainingStep("A", step_args=self.trainer.train())

    def tuning(self) -> Any:
        """Return a step that tunes."""
        tuner = HyperparameterTuner(
            self.trainer,
            "auc",
            {"eta": ContinuousParameter(0, 1)},
            [{"Name": "auc", "Regex": "auc=(.*)"}],
            max_jobs=2,
        )
        return TuningStep("A", step_args=tuner.tune())

    def transform(self) -> Any:
        """Return a step that transforms data."""
        transformer = Transformer(
            self.model,
            **MACHINE,
            output_path=f"{BUCKET}/out",
            sagemaker_session=self.session,
        )
        return TransformStep("A", step_args=transformer.transform(self.source))

    def condition(self) -> Any:
        """Return a condition, and a step that fails."""
        is_high = ConditionGreaterThan(self.score, 0.5)
        low = FailStep("TooLow", error_message="too low")
        return ConditionStep("A", conditions=[is_high], if_steps=[], else_steps=[low])

    def lambda_function(self) -> Any:
        """Return a step that calls a function of AWS Lambda."""
        return LambdaStep(
            "A",
            lambda_func=Lambda(function_arn=FUNCTION),
            inputs={"x": self.score},
            outputs=[LambdaOutput("y")],
        )

    def callback(self) -> Any:
        """Return a step that waits for an answer."""
        return CallbackStep(
            "A",
            sqs_queue_url=QUEUE,
            inputs={"x": self.score},
            outputs=[CallbackOutput("y", CallbackOutputTypeEnum.String)],
        )

    def quality_check(self) -> Any:
        """Return a step that checks the quality of data."""
        config = DataQualityCheckConfig(
            baseline_dataset=f"{BUCKET}/data.csv",
            dataset_format=DatasetFormat.csv(),
            output_s3_uri=f"{BUCKET}/out",
        )
        return QualityCheckStep("A", config, self.check)

    def clarify_check(self) -> Any:
        """Return a step that checks the bias of data."""
        data = DataConfig(
            s3_data_input_path=f"{BUCKET}/data.csv",
            s3_output_path=f"{BUCKET}/out",
            s3_analysis_config_output_path=f"{BUCKET}/analysis",
            label="y",
        )
        bias = BiasConfig(label_values_or_threshold=[1], facet_name="age")
        config = DataBiasCheckConfig(data_config=data, data_bias_config=bias)
        return ClarifyCheckStep("A", config, self.check)

    def emr(self) -> Any:
        """Return a step of a cluster of EMR."""
        job = EMRStepConfig(jar=f"{BUCKET}/job.jar", args=["x"])
        return EMRStep("A", "name", "description", "j-1ABCDEFGHIJKL", job)

    def emr_serverless(self) -> Any:
        """Return a step of EMR Serverless."""
        driver = {"sparkSubmit": {"entryPoint": f"{BUCKET}/job.py"}}
        job = EMRServerlessJobConfig(job_driver=driver, execution_role_arn=self.role)
        return EMRServerlessStep(
            "A", "name", "description", job, application_id="00f1abcdefghijk1"
        )

    def loop(self) -> Any:
        """Return a loop."""
        body = LambdaStep(
            "B",
            lambda_func=Lambda(function_arn=FUNCTION),
            inputs={"x": CurrentItem()},
            outputs=[LambdaOutput("y")],
        )
        return ForEachStep(
            "A", iterable_items=["a", "b"], max_concurrency=1, for_each_body=[body]
        )

    def cleanup(self) -> Any:
        """Return a step that deletes what another one has written, and that one."""
        processing = self.processing()
        source = S3CleanupSource(processing.name, [f"{BUCKET}/out/file"])
        return [processing, CleanupStep("B", s3_sources=[source])]

    def notebook_job(self) -> Any:
        """Return a step that runs a notebook."""
        notebook = str(self.notebook)
        return NotebookJobStep(
            notebook, IMAGE, "python3", name="A", role=self.role, s3_root_uri=BUCKET
        )

    def python_function(self) -> Any:
        """Return a step that runs a Python function."""

        @step(role=self.role, image_uri=IMAGE, instance_type="ml.m5.large", name="A")
        def function() -> int:
            return 1

        return function()

    def endpoint_config(self) -> Any:
        """Return a step that makes the configuration of an endpoint."""
        variant = {"VariantName": "a", "ModelName": self.model}
        request = {"ProductionVariants": [variant]}
        return EndpointConfigStep(
            "A", _JobStepArguments("create_endpoint_config", request)
        )

    def endpoint(self) -> Any:
        """Return a step that makes an endpoint."""
        request = {"EndpointName": "churn", "EndpointConfigName": "churn-1"}
        return EndpointStep("A", _JobStepArguments("create_endpoint", request))

    def inference_component(self) -> Any:
        """Return a step that adds a model to an endpoint."""
        request = {
            "InferenceComponentName": "churn",
            "EndpointName": "churn",
            "VariantName": "a",
            "Specification": {"ModelName": self.model},
        }
        return InferenceComponentStep(
            "A", _JobStepArguments("create_inference_component", request)
        )

    def lineage(self) -> Any:
        """Return a step that writes lineage."""
        source = {"SourceUri": BUCKET}
        action = {"ActionName": "a", "ActionType": "t", "Source": source}
        return LineageStep("A", actions=_JobStepArguments("create_action", action))


TYPES = {
    "Processing": Steps.processing,
    "Training": Steps.training,
    "Tuning": Steps.tuning,
    "Transform": Steps.transform,
    "Condition": Steps.condition,
    "Lambda": Steps.lambda_function,
    "Callback": Steps.callback,
    "QualityCheck": Steps.quality_check,
    "ClarifyCheck": Steps.clarify_check,
    "EMR": Steps.emr,
    "EMRServerless": Steps.emr_serverless,
    "ForEach": Steps.loop,
    "Cleanup": Steps.cleanup,
    "NotebookJob": Steps.notebook_job,
    "@step": Steps.python_function,
    "EndpointConfig": Steps.endpoint_config,
    "Endpoint": Steps.endpoint,
    "InferenceComponent": Steps.inference_component,
    "Lineage": Steps.lineage,
}


def definitions(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the definitions of all types, three times."""
    for score in (0.9, 0.9, 0.8):
        yield {
            name: Steps(folder, score).definition_of(make)
            for name, make in TYPES.items()
        }
        # The SDK gives some files a name with the time in seconds.
        time.sleep(1.1)


if __name__ == "__main__":
    with RedirectedBoto3(os.environ["AWS_ENDPOINT_URL"]):
        print(json.dumps([*definitions(Path(sys.argv[1]))]))
