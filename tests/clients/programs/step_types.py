"""
Prints, as JSON, three definitions for each type of step of SageMaker's Python SDK: of a
pipeline, of the same one made again later, and of another one.

Its arguments are the version of the SDK, 2 or 3, and a folder for files.
``test_sdk_definitions`` runs it.

Left out of version 3: models, which need ``ModelBuilder`` and a model of a framework;
AutoML, whose step fails in 3.27 with an AttributeError of the SDK; Job steps, which
need a recipe.
"""

# The decorator of the SDK, which is installed in that environment only, has no type.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from sagemaker_emulator.clients import RedirectedBoto3

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/churn:1"
ROLE = "arn:aws:iam::123456789012:role/PipelineRole"
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


class Sdk:
    """The names of some modules, which differ between the versions of the SDK."""

    def __init__(self, *modules: str) -> None:
        self._modules = [import_module(f"sagemaker.{name}") for name in modules]

    def __getattr__(self, name: str) -> Any:
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


# The modules with the same names in both versions.
WORKFLOW = (
    "callback_step",
    "check_job_config",
    "clarify_check_step",
    "condition_step",
    "emr_step",
    "endpoint_step",
    "fail_step",
    "function_step",
    "inference_component_step",
    "lambda_step",
    "lineage_step",
    "notebook_job_step",
    "pipeline",
    "quality_check_step",
    "steps",
)


class Steps:
    """
    Makes a step of each type.

    :param score: the value in which pipelines differ.
    """

    modules: ClassVar[tuple[str, ...]]
    types: ClassVar[dict[str, str]] = {
        "Processing": "processing",
        "Training": "training",
        "Tuning": "tuning",
        "Transform": "transform",
        "Condition": "condition",
        "Lambda": "lambda_function",
        "Callback": "callback",
        "QualityCheck": "quality_check",
        "ClarifyCheck": "clarify_check",
        "EMR": "emr",
        "NotebookJob": "notebook_job",
        "@step": "python_function",
        "EndpointConfig": "endpoint_config",
        "Endpoint": "endpoint",
        "InferenceComponent": "inference_component",
        "Lineage": "lineage",
    }

    def __init__(self, folder: Path, score: float) -> None:
        sdk = self.sdk = Sdk(*self.modules)
        self.role = self.find_role()
        self.code = folder / "code"
        self.code.mkdir(exist_ok=True)
        self.script = self.code / "job.py"
        self.script.write_text("print('never run')")
        self.notebook = folder / "report.ipynb"
        self.notebook.write_text(json.dumps(NOTEBOOK))
        self.session = sdk.PipelineSession(default_bucket="sdk-bucket")
        self.score = sdk.ParameterFloat("Score", default_value=score)
        self.source = sdk.ParameterString("Source", default_value=f"{BUCKET}/in")
        self.model = sdk.ParameterString("Model", default_value="churn")
        self.check = sdk.CheckJobConfig(role=self.role, sagemaker_session=self.session)

    def find_role(self) -> str:
        """Return the role of the steps."""
        return ROLE

    def definition_of(self, method: str) -> str:
        """Return the definition of a pipeline with the step, or steps, of a method."""
        made = getattr(self, method)()
        pipeline = self.sdk.Pipeline(
            "Sdk",
            [self.score, self.source, self.model],
            steps=made if isinstance(made, list) else [made],
            sagemaker_session=self.session,
        )
        return str(pipeline.definition())

    def processing(self) -> Any:
        """Return a step that processes data."""
        sdk = self.sdk
        processor = sdk.ScriptProcessor(
            role=self.role,
            image_uri=IMAGE,
            command=["python3"],
            **MACHINE,
            sagemaker_session=self.session,
        )
        request = processor.run(code=str(self.script), arguments=["--in", self.source])
        return sdk.ProcessingStep("A", step_args=request)

    def transform(self) -> Any:
        """Return a step that transforms data."""
        sdk = self.sdk
        transformer = sdk.Transformer(
            self.model,
            **MACHINE,
            output_path=f"{BUCKET}/out",
            sagemaker_session=self.session,
        )
        return sdk.TransformStep("A", step_args=transformer.transform(self.source))

    def condition(self) -> Any:
        """Return a condition, and a step that fails."""
        sdk = self.sdk
        is_high = sdk.ConditionGreaterThan(self.score, 0.5)
        low = sdk.FailStep("TooLow", error_message="too low")
        return sdk.ConditionStep(
            "A", conditions=[is_high], if_steps=[], else_steps=[low]
        )

    def lambda_function(self) -> Any:
        """Return a step that calls a function of AWS sdk.Lambda."""
        sdk = self.sdk
        return sdk.LambdaStep(
            "A",
            lambda_func=sdk.Lambda(function_arn=FUNCTION),
            inputs={"x": self.score},
            outputs=[sdk.LambdaOutput("y")],
        )

    def callback(self) -> Any:
        """Return a step that waits for an answer."""
        sdk = self.sdk
        return sdk.CallbackStep(
            "A",
            sqs_queue_url=QUEUE,
            inputs={"x": self.score},
            outputs=[sdk.CallbackOutput("y", sdk.CallbackOutputTypeEnum.String)],
        )

    def quality_check(self) -> Any:
        """Return a step that checks the quality of data."""
        sdk = self.sdk
        config = sdk.DataQualityCheckConfig(
            baseline_dataset=f"{BUCKET}/data.csv",
            dataset_format=sdk.DatasetFormat.csv(),
            output_s3_uri=f"{BUCKET}/out",
        )
        return sdk.QualityCheckStep("A", config, self.check)

    def clarify_check(self) -> Any:
        """Return a step that checks the bias of data."""
        sdk = self.sdk
        data = sdk.DataConfig(
            s3_data_input_path=f"{BUCKET}/data.csv",
            s3_output_path=f"{BUCKET}/out",
            s3_analysis_config_output_path=f"{BUCKET}/analysis",
            label="y",
        )
        bias = sdk.BiasConfig(label_values_or_threshold=[1], facet_name="age")
        config = sdk.DataBiasCheckConfig(data_config=data, data_bias_config=bias)
        return sdk.ClarifyCheckStep("A", config, self.check)

    def emr(self) -> Any:
        """Return a step of a cluster of EMR."""
        sdk = self.sdk
        job = sdk.EMRStepConfig(jar=f"{BUCKET}/job.jar", args=["x"])
        return sdk.EMRStep("A", "name", "description", "j-1ABCDEFGHIJKL", job)

    def notebook_job(self) -> Any:
        """Return a step that runs a notebook."""
        sdk = self.sdk
        notebook = str(self.notebook)
        return sdk.NotebookJobStep(
            notebook, IMAGE, "python3", name="A", role=self.role, s3_root_uri=BUCKET
        )

    def python_function(self) -> Any:
        """Return a step that runs a Python function."""
        sdk = self.sdk

        @sdk.step(
            role=self.role, image_uri=IMAGE, instance_type="ml.m5.large", name="A"
        )
        def function() -> int:
            return 1

        return function()

    def endpoint_config(self) -> Any:
        """Return a step that makes the configuration of an endpoint."""
        sdk = self.sdk
        variant = {"VariantName": "a", "ModelName": self.model}
        request = {"ProductionVariants": [variant]}
        return sdk.EndpointConfigStep(
            "A", sdk._JobStepArguments("create_endpoint_config", request)
        )

    def endpoint(self) -> Any:
        """Return a step that makes an endpoint."""
        sdk = self.sdk
        request = {"EndpointName": "churn", "EndpointConfigName": "churn-1"}
        return sdk.EndpointStep("A", sdk._JobStepArguments("create_endpoint", request))

    def inference_component(self) -> Any:
        """Return a step that adds a model to an endpoint."""
        sdk = self.sdk
        request = {
            "InferenceComponentName": "churn",
            "EndpointName": "churn",
            "VariantName": "a",
            "Specification": {"ModelName": self.model},
        }
        return sdk.InferenceComponentStep(
            "A", sdk._JobStepArguments("create_inference_component", request)
        )

    def lineage(self) -> Any:
        """Return a step that writes lineage."""
        sdk = self.sdk
        source = {"SourceUri": BUCKET}
        action = {"ActionName": "a", "ActionType": "t", "Source": source}
        return sdk.LineageStep(
            "A", actions=sdk._JobStepArguments("create_action", action)
        )


class Version2(Steps):
    """The types as version 2 has them."""

    modules = (
        *(f"workflow.{name}" for name in (*WORKFLOW, "automl_step", "model_step")),
        "automl.automl",
        "clarify",
        "estimator",
        "inputs",
        "lambda_helper",
        "model",
        "model_monitor",
        "processing",
        "transformer",
        "tuner",
        "workflow.conditions",
        "workflow.parameters",
        "workflow.pipeline_context",
    )
    types: ClassVar[dict[str, str]] = {
        **Steps.types,
        "Model": "made_model",
        "RegisterModel": "registered_model",
        "AutoML": "automl",
    }

    def __init__(self, folder: Path, score: float) -> None:
        super().__init__(folder, score)
        self.estimator = self.sdk.Estimator(
            IMAGE,
            self.role,
            **MACHINE,
            output_path=f"{BUCKET}/out",
            hyperparameters={"eta": self.score},
            sagemaker_session=self.session,
        )

    def training(self) -> Any:
        """Return a step that trains."""
        sdk = self.sdk
        request = self.estimator.fit({"train": sdk.TrainingInput(self.source)})
        return sdk.TrainingStep("A", step_args=request)

    def tuning(self) -> Any:
        """Return a step that tunes."""
        sdk = self.sdk
        tuner = sdk.HyperparameterTuner(
            self.estimator,
            "auc",
            {"eta": sdk.ContinuousParameter(0, 1)},
            [{"Name": "auc", "Regex": "auc=(.*)"}],
            max_jobs=2,
        )
        request = tuner.fit({"train": sdk.TrainingInput(self.source)})
        return sdk.TuningStep("A", step_args=request)

    def _model(self) -> Any:
        sdk = self.sdk
        data = f"{BUCKET}/model.tar.gz"
        return sdk.Model(
            IMAGE, model_data=data, role=self.role, sagemaker_session=self.session
        )

    def made_model(self) -> Any:
        """Return a step that makes a model."""
        sdk = self.sdk
        request = self._model().create(instance_type="ml.m5.large")
        return sdk.ModelStep("A", step_args=request)

    def registered_model(self) -> Any:
        """Return a step that registers a model."""
        sdk = self.sdk
        request = self._model().register(
            content_types=["text/csv"],
            response_types=["text/csv"],
            inference_instances=["ml.m5.large"],
            transform_instances=["ml.m5.large"],
            model_package_group_name="churn",
        )
        return sdk.ModelStep("A", step_args=request)

    def automl(self) -> Any:
        """Return a step that finds a model."""
        sdk = self.sdk
        automl = sdk.AutoML(
            role=self.role,
            target_attribute_name="y",
            mode="ENSEMBLING",
            output_path=f"{BUCKET}/out",
            sagemaker_session=self.session,
        )
        data = sdk.AutoMLInput(
            inputs=self.source, target_attribute_name="y", channel_type="training"
        )
        return sdk.AutoMLStep("A", step_args=automl.fit(inputs=[data]))


class Version3(Steps):
    """The types as version 3 has them."""

    modules = (
        *(f"mlops.workflow.{name}" for name in WORKFLOW),
        "mlops.workflow.cleanup_step",
        "mlops.workflow.emr_serverless_step",
        "mlops.workflow.for_each_step",
        "core.clarify",
        "core.helper.session_helper",
        "core.lambda_helper",
        "core.model_monitor",
        "core.parameter",
        "core.processing",
        "core.transformer",
        "core.workflow.conditions",
        "core.workflow.parameters",
        "core.workflow.pipeline_context",
        "train",
        "train.configs",
        "train.tuner",
    )
    types: ClassVar[dict[str, str]] = {
        **Steps.types,
        "EMRServerless": "emr_serverless",
        "ForEach": "loop",
        "Cleanup": "cleanup",
    }

    def __init__(self, folder: Path, score: float) -> None:
        super().__init__(folder, score)
        sdk = self.sdk
        self.trainer = sdk.ModelTrainer(
            training_image=IMAGE,
            source_code=sdk.SourceCode(
                source_dir=str(self.code), entry_script="job.py"
            ),
            compute=sdk.Compute(**MACHINE),
            hyperparameters={"eta": self.score},
            role=self.role,
            sagemaker_session=self.session,
        )

    def find_role(self) -> str:
        """Return the role that the SDK finds: it refuses one that does not exist."""
        return str(self.sdk.get_execution_role())

    def training(self) -> Any:
        """Return a step that trains."""
        sdk = self.sdk
        return sdk.TrainingStep("A", step_args=self.trainer.train())

    def tuning(self) -> Any:
        """Return a step that tunes."""
        sdk = self.sdk
        tuner = sdk.HyperparameterTuner(
            self.trainer,
            "auc",
            {"eta": sdk.ContinuousParameter(0, 1)},
            [{"Name": "auc", "Regex": "auc=(.*)"}],
            max_jobs=2,
        )
        return sdk.TuningStep("A", step_args=tuner.tune())

    def emr_serverless(self) -> Any:
        """Return a step of EMR Serverless."""
        sdk = self.sdk
        driver = {"sparkSubmit": {"entryPoint": f"{BUCKET}/job.py"}}
        job = sdk.EMRServerlessJobConfig(
            job_driver=driver, execution_role_arn=self.role
        )
        return sdk.EMRServerlessStep(
            "A", "name", "description", job, application_id="00f1abcdefghijk1"
        )

    def loop(self) -> Any:
        """Return a loop."""
        sdk = self.sdk
        body = sdk.LambdaStep(
            "B",
            lambda_func=sdk.Lambda(function_arn=FUNCTION),
            inputs={"x": sdk.CurrentItem()},
            outputs=[sdk.LambdaOutput("y")],
        )
        return sdk.ForEachStep(
            "A", iterable_items=["a", "b"], max_concurrency=1, for_each_body=[body]
        )

    def cleanup(self) -> Any:
        """Return a step that deletes what another one has written, and that one."""
        sdk = self.sdk
        processing = self.processing()
        source = sdk.S3CleanupSource(processing.name, [f"{BUCKET}/out/file"])
        return [processing, sdk.CleanupStep("B", s3_sources=[source])]


def definitions(kind: type[Steps], folder: Path) -> Iterator[dict[str, str]]:
    """Yield the definitions of all types, three times."""
    for score in (0.9, 0.9, 0.8):
        yield {
            name: kind(folder, score).definition_of(method)
            for name, method in kind.types.items()
        }
        # The SDK gives some files a name with the time in seconds.
        time.sleep(1.1)


def main(version: str, folder: str) -> None:
    """Print the definitions."""
    with ExitStack() as stack:
        kind: type[Steps] = Version2
        if version == "3":
            # It has calls that do not follow AWS_ENDPOINT_URL.
            stack.enter_context(RedirectedBoto3(os.environ["AWS_ENDPOINT_URL"]))
            kind = Version3
        print(json.dumps([*definitions(kind, Path(folder))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
