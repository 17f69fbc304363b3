"""The datasets of an execution, by the names that OpenLineage gives them."""

from __future__ import annotations

from typing import Any

from polysync_airflow.execution.datasets import (
    MAX_DATASETS,
    Dataset,
    Datasets,
    datasets_of,
)
from polysync_airflow.execution.results import JOB_KINDS

ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012"
CHINESE = "arn:aws-cn:sagemaker:cn-north-1:123456789012"
BUCKET = "s3://ml-bucket"


def test_only_names_of_objects_and_folders_in_s3_are_datasets() -> None:
    """What is no name of an object or a folder in S3 is no dataset."""
    for uri, name in (
        ("s3://ml-bucket/day=1/a b.csv", "day=1/a b.csv"),
        ("s3://ml-bucket/X", "X"),
        ("s3://ml-bucket/raw/", "raw"),
        ("s3://ml-bucket//raw", "raw"),
        ("s3://ml-bucket", "/"),
        ("s3://ml-bucket/", "/"),
        ("s3://ML/x", None),
        ("s3://m/x", None),
        ("s3://ml bucket/x", None),
        ("s3://user:pass@host/x", None),
        ("https://ml-bucket/x", None),
        ("", None),
        ("\ns3://ml-bucket/x", None),
        ("s3://ml-bucket/x\n", None),
        ("s3://ml-bucket/a\ufffdb", None),
        ("s3://ml-bucket/" + "x" * 1025, None),
    ):
        expected: tuple[Dataset, ...] = ()
        if name:
            expected = (Dataset(BUCKET, name),)

        assert datasets_of([uri], []) == Datasets(inputs=expected)
        assert datasets_of([], [uri]) == Datasets(outputs=expected)


def test_model_packages_are_named_by_their_arns() -> None:
    """They are named by their ARNs."""
    for account, name in (
        (ACCOUNT, "model-package/churn/7"),
        (CHINESE, "model-package/churn"),
    ):
        found = datasets_of([], [], [f"{account}:{name}"])
        assert found.outputs == (Dataset(account, name),)
    for arn in (
        f"{ACCOUNT}:model-package/churn/7\n",
        f"{ACCOUNT}:model/churn",
        "arn:aws:s3:::ml-bucket",
    ):
        assert datasets_of([], [], [arn]).outputs == ()


def test_what_one_step_writes_and_another_reads_is_an_output() -> None:
    """A dataset is named once, in the order of the steps; model packages come first."""
    read = [f"{BUCKET}/raw", f"{BUCKET}/train/", f"{BUCKET}/raw/", None]
    written = [f"{BUCKET}/train", f"{BUCKET}/model", None, f"{BUCKET}/train/"]

    datasets = datasets_of(read, written, [f"{ACCOUNT}:model-package/churn/7"])

    assert datasets.inputs == (Dataset(BUCKET, "raw"),)
    assert datasets.outputs == (
        Dataset(ACCOUNT, "model-package/churn/7"),
        Dataset(BUCKET, "train"),
        Dataset(BUCKET, "model"),
    )


def test_large_execution_is_bounded() -> None:
    """The number of datasets that are left out is known."""
    read = [f"{BUCKET}/raw/{number}" for number in range(MAX_DATASETS + 20)] * 2
    written = [f"{BUCKET}/made/{number}" for number in range(MAX_DATASETS + 3)] * 2

    datasets = datasets_of(read, written, [f"{ACCOUNT}:model-package/churn/7"])

    assert len(datasets.inputs) == MAX_DATASETS
    assert len(datasets.outputs) == MAX_DATASETS
    assert datasets.left_out == 20 + 3 + 1
    assert datasets.outputs[0].name == "model-package/churn/7"


def in_s3(uri: str = "s3://in/a") -> dict[str, Any]:
    """Return an input in S3."""
    return {"DataSource": {"S3DataSource": {"S3Uri": uri}}}


# Only the first is one.
FILE_SYSTEM: Any = {"DataSource": {"FileSystemDataSource": {}}}
CHANNELS = [in_s3(), FILE_SYSTEM, {"DataSource": None}, {}, 1]
TRAINING = {"InputDataConfig": CHANNELS}
TRAINED = {"ModelArtifacts": {"S3ModelArtifacts": "s3://out/m.tar.gz"}}
# What comes after a hundred definitions is not read.
OTHER_TRAINING = {"InputDataConfig": [in_s3("s3://in/b")]}
TUNED = [TRAINING, None, OTHER_TRAINING, *[{"InputDataConfig": "x"}] * 98, TRAINING]
INPUTS = [{"S3Input": {"S3Uri": "s3://in/a"}}, {"DatasetDefinition": {}}]
OUTPUTS = [
    {"OutputName": "train", "S3Output": {"S3Uri": "s3://out/train"}},
    {"OutputName": "store", "FeatureStoreOutput": {}},
]
OUTPUT_CONFIG = {"Outputs": OUTPUTS}
PROCESSING = {"ProcessingInputs": INPUTS, "ProcessingOutputConfig": OUTPUT_CONFIG}
SCORES = {"S3OutputPath": "s3://out/scores"}
TRANSFORM = {"TransformInput": in_s3(), "TransformOutput": SCORES}
AUTO = {"S3OutputPath": "s3://out/auto"}
AUTO_ML = {"AutoMLJobInputDataConfig": CHANNELS, "OutputDataConfig": AUTO}
CONTAINERS = [
    {"ModelDataUrl": "s3://in/a"},
    {"ModelDataSource": {"S3DataSource": {"S3Uri": "s3://in/b"}}},
    {"Image": "x"},
]
MODEL = {"InferenceSpecification": {"Containers": CONTAINERS}}
A = ["s3://in/a"]
A_AND_B = ["s3://in/a", "s3://in/b"]


def test_job_tells_what_it_reads_and_writes() -> None:
    """It is in none of the members that outputs has besides."""
    for kind, response, read, written in (
        ("TrainingJob", {**TRAINING, **TRAINED}, A, ["s3://out/m.tar.gz"]),
        ("TuningJob", {"TrainingJobDefinition": TRAINING}, A, []),
        ("TuningJob", {"TrainingJobDefinitions": TUNED}, A_AND_B, []),
        ("ProcessingJob", PROCESSING, A, ["s3://out/train"]),
        ("TransformJob", TRANSFORM, A, ["s3://out/scores"]),
        ("AutoMLJob", AUTO_ML, A, ["s3://out/auto"]),
        ("RegisterModel", MODEL, A_AND_B, []),
        ("Endpoint", {"EndpointStatus": "InService"}, [], []),
    ):
        job = JOB_KINDS[kind].description.model_validate(response)

        assert list(job.read_uris or ()) == read
        assert [uri for uri in job.written_uris if uri] == written
        assert not {"read_uris", "written_uris", "output_path"} & job.outputs.keys()
