"""
Hypothesis strategies: JSON values with everything that databases, logs and parsers
dislike, and responses of AWS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.measures import MEASURES

FUZZ = settings(
    max_examples=int(os.environ.get("POLYSYNC_FUZZ_EXAMPLES", "10")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def fuzz(
    *values: Any, **named: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """
    Decorate a test that gets random values, as ``hypothesis.given`` does, and count its
    cases.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            MEASURES.cases += 1
            test(*args, **kwargs)

        with_values: Any = given(*values, **named)
        decorated: Callable[..., None] = FUZZ(with_values(counted))
        return decorated

    return decorate


_SPECIAL_TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "a\nb",
    "{{ conn.other.password }}",
    "../../etc/passwd",
    "http://[",
    "https://evil.example",
    "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x/execution/abc",
    "arn:aws:iam::123456789012:role/x",
    "arn:aws:iam::١٢٣٤٥٦٧٨٩٠١٢:role/x",
    "x" * 5000,
    "api://x",
    "us-east-1",
    "true",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "__classname__",
    "__id__",
    "__type",
    "__var",
)
_SPECIAL_NUMBERS = (
    0,
    -1,
    1,
    2**63,
    2**64,
    -(2**64),
    10**30,
    0.5,
    1e30,
    1e300,
    1e-300,
    float("nan"),
    float("inf"),
)

texts = st.text(max_size=30) | st.sampled_from(_SPECIAL_TEXTS)
# Hypothesis cannot print such numbers, so it must not know them before it draws them.
huge_numbers = st.sampled_from([1, -1]).map(lambda sign: sign * 10**5000)
numbers = st.integers() | st.floats() | st.sampled_from(_SPECIAL_NUMBERS) | huge_numbers
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4)
    ),
    max_leaves=12,
)
# Without what JSON cannot express, or Python refuses to write.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.sampled_from(_SPECIAL_NUMBERS)
    | texts,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4)
    ),
    max_leaves=12,
)


def variations(
    valid: Mapping[str, Any], other: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """
    Return mappings in which some members of a valid one are missing or have other
    values.

    :param valid: a mapping that is valid.
    :param other: the other values, and those of members with random names.
    """
    missing = st.sets(st.sampled_from(sorted(valid)), max_size=3)
    changed = st.dictionaries(st.sampled_from(sorted(valid)), other, max_size=4)
    more = st.dictionaries(texts, other, max_size=1)

    def combine(
        missing: set[str], changed: dict[str, Any], more: dict[str, Any]
    ) -> dict[str, Any]:
        kept = {name: value for name, value in valid.items() if name not in missing}
        return {**kept, **changed, **more}

    return st.builds(combine, missing, changed, more)
