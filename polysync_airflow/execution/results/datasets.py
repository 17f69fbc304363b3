"""
The datasets that an execution has read and written, by the names that OpenLineage gives them.

https://openlineage.io/docs/spec/naming: an object or a folder in S3 has the namespace ``s3://<bucket>`` and
its key as the name. The specification has no names for SageMaker; a model package is named as it names
tables of AWS Glue, by the parts of its ARN.

Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

# Of the inputs, and of the outputs. A receiver of events may refuse one that is too long.
MAX_DATASETS: Final = 250
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html and object-keys.html
_S3_URI: Final = re.compile(r"(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^\x00-\x1f\x7f\ufffd]{0,1024}))?")
_MODEL_PACKAGE: Final = re.compile(
    r"(arn:aws[a-z-]{0,20}:sagemaker:[a-z0-9-]{1,30}:[0-9]{12}):(model-package/[A-Za-z0-9-]{1,63}(?:/[0-9]{1,9})?)"
)


class Dataset(NamedTuple):
    """A dataset; namespace and name together are unique."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Datasets:
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
    Return the datasets of an execution, without those of which the name is not valid.

    What one step has written and another has read is an output, not an input too: a graph with both would
    have a cycle.

    :param read: the S3 URIs that the steps have read.
    :param written: the S3 URIs that the steps have written.
    :param model_packages: the ARNs of the model packages that they have registered.
    :param reused_packages: the ARNs of those that an earlier execution has registered for them.
    """
    # Without duplicates, in the order of the steps.
    outputs = dict.fromkeys([*_packages(model_packages), *_in_s3(written)])
    used = (*_packages(reused_packages), *_in_s3(read))
    inputs = dict.fromkeys(each for each in used if each not in outputs)
    left_out = sum(max(0, len(each) - MAX_DATASETS) for each in (inputs, outputs))
    return Datasets(tuple(islice(inputs, MAX_DATASETS)), tuple(islice(outputs, MAX_DATASETS)), left_out)


def _packages(arns: Iterable[str]) -> Iterator[Dataset]:
    return (Dataset(*match.groups()) for arn in arns if (match := _MODEL_PACKAGE.fullmatch(arn)))


def _in_s3(uris: Iterable[str | None]) -> Iterator[Dataset]:
    for uri in uris:
        match = _S3_URI.fullmatch(uri) if uri else None
        if match:
            # A folder is the same with and without a slash at its end. A bucket as a whole is "/".
            yield Dataset(match[1], (match[2] or "").strip("/") or "/")
