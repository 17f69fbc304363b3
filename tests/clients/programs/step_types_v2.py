"""
Prints, as JSON, three definitions for each type of step of version 2 of SageMaker's
Python SDK: of a pipeline, of the same one made again later, and of another one.

Its argument is a folder for files. ``test_sdk_definitions`` runs it.
"""

# The SDK is installed in that environment only.
# mypy: disable-error-code="import-not-found,untyped-decorator"

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sagemaker.automl.automl import AutoML, AutoMLInput
from sagemaker.clarify import BiasConfig, DataConfig
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.lambda_helper import Lambda
from sagemaker.model import Model
from sagemaker.model_monitor import DatasetFormat
from sagemaker.processing import ScriptProcessor
from sagemaker.transformer import Transformer
from sagemaker.tuner import ContinuousParameter, HyperparameterTuner
from sagemaker.workflow.automl_step import AutoMLStep
from sagemaker.workflow.callback_step import (
    CallbackOutput,
    CallbackOutputTypeEnum,
    CallbackStep,
)
from sagemaker.workflow.check_job_config import CheckJobConfig
from sagemaker.workflow.clarify_check_step import ClarifyCheckStep, DataBiasCheckConfig
from sagemaker.workflow.condition_step import ConditionStep
from sagemaker.workflow.conditions import ConditionGreaterThan
from sagemaker.workflow.emr_step import EMRStep, EMRStepConfig
from sagemaker.workflow.endpoint_step import EndpointConfigStep, EndpointStep
from sagemaker.workflow.fail_step import FailStep
from sagemaker.workflow.function_step import step
from sagemaker.workflow.inference_component_step import InferenceComponentStep
from sagemaker.workflow.lambda_step import (
    LambdaOutput,
    LambdaOutputTypeEnum,
    LambdaStep,
)
from sagemaker.workflow.lineage_step import LineageStep
from sagemaker.workflow.model_step import ModelStep
from sagemaker.workflow.notebook_job_step import NotebookJobStep
from sagemaker.workflow.parameters import ParameterFloat, ParameterString
from sagemaker.workflow.pipeline import Pipeline
from sagemaker.workflow.pipeline_context import PipelineSession, _JobStepArguments
from sagemaker.workflow.quality_check_step import (
    DataQualityCheckConfig,
    QualityCheckStep,
)
from sagemaker.workflow.steps import (
    ProcessingStep,
    TrainingStep,
    TransformStep,
    TuningStep,
)

ROLE = "arn:aws:iam::123456789012:role/PipelineRole"
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
        self.script = folder / "job.py"
        self.script.write_text("print('never run')")
        self.notebook = folder / "report.ipynb"
        self.notebook.write_text(json.dumps(NOTEBOOK))
        self.session = PipelineSession(default_bucket="sdk-bucket")
        self.score = ParameterFloat("Score", default_value=score)
        self.source = ParameterString("Source", default_value=f"{BUCKET}/in")
        self.model = ParameterString("Model", default_value="churn")
        self.check = CheckJobConfig(role=ROLE, sagemaker_session=self.session)
        self.estimator = Estimator(
            IMAGE,
            ROLE,
            **MACHINE,
            output_path=f"{BUCKET}/out",
            hyperparameters={"eta": self.score},
            sagemaker_session=self.session,
        )

    def definition_of(self, make: Callable[[Steps], Any]) -> str:
        """Return the definition of a pipeline with one step."""
        parameters = [self.score, self.source, self.model]
        return str(
            Pipeline(
                "Sdk", parameters, steps=[make(self)], sagemaker_session=self.session
            ).definition()
        )

    def processing(self) -> Any:
        """Return a step that processes data."""
        processor = ScriptProcessor(
            role=ROLE,
            image_uri=IMAGE,
            command=["python3"],
            **MACHINE,
            sagemaker_session=self.session,
        )
        request = processor.run(code=str(self.script), arguments=["--in", self.source])
        return ProcessingStep("A", step_args=request)

    def training(self) -> Any:
        """Return a step that trains."""
        request = self.estimator.fit({"train": TrainingInput(self.source)})
        return TrainingStep("A", step_args=request)

    def tuning(self) -> Any:
        """Return a step that tunes."""
        tuner = HyperparameterTuner(
            self.estimator,
            "auc",
            {"eta": ContinuousParameter(0, 1)},
            [{"Name": "auc", "Regex": "auc=(.*)"}],
            max_jobs=2,
        )
        request = tuner.fit({"train": TrainingInput(self.source)})
        return TuningStep("A", step_args=request)

    def _model(self) -> Any:
        data = f"{BUCKET}/model.tar.gz"
        return Model(IMAGE, model_data=data, role=ROLE, sagemaker_session=self.session)

    def made_model(self) -> Any:
        """Return a step that makes a model."""
        request = self._model().create(instance_type="ml.m5.large")
        return ModelStep("A", step_args=request)

    def registered_model(self) -> Any:
        """Return a step that registers a model."""
        request = self._model().register(
            content_types=["text/csv"],
            response_types=["text/csv"],
            inference_instances=["ml.m5.large"],
            transform_instances=["ml.m5.large"],
            model_package_group_name="churn",
        )
        return ModelStep("A", step_args=request)

    def transform(self) -> Any:
        """Return a step that transforms data."""
        transformer = Transformer(
            self.model,
            **MACHINE,
            output_path=f"{BUCKET}/out",
            sagemaker_session=self.session,
        )
        return TransformStep("A", step_args=transformer.transform(self.source))

    def automl(self) -> Any:
        """Return a step that finds a model."""
        automl = AutoML(
            role=ROLE,
            target_attribute_name="y",
            mode="ENSEMBLING",
            output_path=f"{BUCKET}/out",
            sagemaker_session=self.session,
        )
        data = AutoMLInput(
            inputs=self.source, target_attribute_name="y", channel_type="training"
        )
        return AutoMLStep("A", step_args=automl.fit(inputs=[data]))

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
            outputs=[LambdaOutput("y", LambdaOutputTypeEnum.String)],
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

    def notebook_job(self) -> Any:
        """Return a step that runs a notebook."""
        notebook = str(self.notebook)
        return NotebookJobStep(
            notebook, IMAGE, "python3", name="A", role=ROLE, s3_root_uri=BUCKET
        )

    def python_function(self) -> Any:
        """Return a step that runs a Python function."""

        @step(role=ROLE, image_uri=IMAGE, instance_type="ml.m5.large", name="A")
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
    "Model": Steps.made_model,
    "RegisterModel": Steps.registered_model,
    "Transform": Steps.transform,
    "AutoML": Steps.automl,
    "Condition": Steps.condition,
    "Lambda": Steps.lambda_function,
    "Callback": Steps.callback,
    "QualityCheck": Steps.quality_check,
    "ClarifyCheck": Steps.clarify_check,
    "EMR": Steps.emr,
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
    print(json.dumps([*definitions(Path(sys.argv[1]))]))
