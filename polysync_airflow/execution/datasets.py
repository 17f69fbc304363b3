"""
The datasets that an execution has read and written.

Datasets have the names that OpenLineage gives them
(https://openlineage.io/docs/spec/naming): an object or a folder in S3 has the namespace
``s3://<bucket>`` and its key as the name. The specification has no names for SageMaker.
So a model package is named as the specification names tables of AWS Glue, by the parts
of its ARN.

Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from polysync_airflow.execution import models

# Inputs, and as many outputs. A receiver of events may refuse an event that is too
# long.
MAX_DATASETS: Final = 250
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
# and object-keys.html there
_S3_URI: Final = re.compile(
    r"(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^\x00-\x1f\x7f\ufffd]{0,1024}))?"
)
_MODEL_PACKAGE: Final = re.compile(models.MODEL_PACKAGE_ARN_PATTERN)


class Dataset(NamedTuple):
    """A dataset; namespace and name together are unique."""

    namespace: str
    name: str


class Datasets(NamedTuple):
    """
    What an execution has read and written.

    :param left_out: how many more there are.
    """

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    left_out: int = 0


def datasets_of(
    read: Iterable[str | None],
    written: Iterable[str | None],
    model_packages: Iterable[str] = (),
    reused_packages: Iterable[str] = (),
) -> Datasets:
    """
    Return the datasets of an execution. Those without a valid name are left out.

    What one step has written and another has read is an output, not an input too: a
    graph with both would have a cycle.

    :param read: the S3 URIs that the steps have read.
    :param written: the S3 URIs that the steps have written.
    :param model_packages: the ARNs of the model packages that the steps have
        registered.
    :param reused_packages: the ARNs of the model packages that an earlier execution has
        registered for reused steps.
    """
    # Without duplicates, in the order of the steps.
    outputs = dict.fromkeys([*_packages(model_packages), *_in_s3(written)])
    used = dict.fromkeys([*_packages(reused_packages), *_in_s3(read)])
    inputs = [dataset for dataset in used if dataset not in outputs]
    return Datasets(
        inputs=tuple(inputs[:MAX_DATASETS]),
        outputs=tuple(islice(outputs, MAX_DATASETS)),
        left_out=_excess(inputs) + _excess(outputs),
    )


def _excess(datasets: Collection[Dataset]) -> int:
    return max(0, len(datasets) - MAX_DATASETS)


def _packages(arns: Iterable[str]) -> Iterator[Dataset]:
    for arn in arns:
        if _MODEL_PACKAGE.fullmatch(arn):
            owner, _, name = arn.rpartition(":")
            yield Dataset(owner, name)


def _in_s3(uris: Iterable[str | None]) -> Iterator[Dataset]:
    for uri in filter(None, uris):
        match = _S3_URI.fullmatch(uri)
        if match:
            # A folder is the same with and without a slash at its end. A bucket as a
            # whole is "/".
            key = (match[2] or "").strip("/")
            yield Dataset(match[1], key or "/")
