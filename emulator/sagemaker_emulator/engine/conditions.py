"""
Evaluates the conditions of a condition step, and the flags of a check step.

The rules are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps.html (condition
step) and of the condition classes of the SageMaker Python SDK: all conditions of a step
must be true. The flags are described in
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-quality-clarify-baseline-lifecycle.html
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from sagemaker_emulator.engine.definition import Step
from sagemaker_emulator.engine.expressions import (
    ExpressionError,
    Scope,
    Unknown,
    evaluate,
    text,
)

_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "Equals": operator.eq,
    "NotEquals": operator.ne,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
#: The types of check steps, with the check that their failure reason names.
CHECKS: Mapping[str, str] = {"QualityCheck": "Quality", "ClarifyCheck": "Clarify"}


def flag(value: Any, scope: Scope, default: bool) -> bool:
    """
    Return a flag of a step.

    :param value: the value in the definition, which may be an expression; None if the
        step lacks it.
    :param scope: the values that an expression can refer to.
    :param default: the flag if it has no value.
    :raises ExpressionError: if the expression cannot be evaluated.
    """
    evaluated = evaluate(value, scope)
    if evaluated is None or isinstance(evaluated, Unknown):
        return default
    return text(evaluated).lower() == "true"


def check_failure(step: Step, scope: Scope) -> str | None:
    """
    Return why the violations that a check step has found make it fail; None if they do
    not.

    The text is what the integration tests of the SageMaker Python SDK expect of AWS.

    :param step: the check step.
    :param scope: the values that its flags can refer to.
    :raises ExpressionError: if a flag cannot be evaluated.
    """
    if not flag(step.body.get("FailOnViolation"), scope, default=True):
        return None
    return f"ClientError: {CHECKS[step.type]} check failed. See violation report."


def outcome(conditions: Any, scope: Scope) -> bool:
    """
    Return whether the step runs its ``IfSteps``.

    A comparison with a value that is unknown to the emulator (see `expressions`) has an
    unknown result. If the whole outcome is unknown, it counts as true, so that a
    pipeline without a scenario runs its ``IfSteps``. A file that a condition reads and
    that no scenario has is missing, and not unknown; there is no public text of AWS.

    :param conditions: the ``Conditions`` of the step.
    :param scope: the values that the conditions can refer to.
    :raises ExpressionError: if a condition is malformed, if its two values cannot be
        compared, or if it reads a file that is missing.
    """
    return _all(conditions, scope) is not False


def _evaluate(condition: Any, scope: Scope) -> bool | None:
    if not isinstance(condition, dict) or not isinstance(condition.get("Type"), str):
        raise ExpressionError(f"{condition!r} is not a condition")
    kind = condition["Type"]
    if kind == "Not":
        return _negated(
            _evaluate(condition.get("Condition", condition.get("Expression")), scope)
        )
    if kind == "And":
        return _all(condition.get("Conditions") or [], scope)
    if kind == "Or":
        return _any(condition.get("Conditions") or [], scope)
    if kind in ("In", "NotIn"):
        searched = condition.get("QueryValue", condition.get("Value"))
        comparisons = [
            {"Type": "Equals", "LeftValue": searched, "RightValue": value}
            for value in _entries(condition.get("Values", condition.get("In")) or [])
        ]
        is_member = _any(comparisons, scope)
        if kind == "NotIn":
            return _negated(is_member)
        return is_member
    return _compare(kind, condition, scope)


def _negated(result: bool | None) -> bool | None:
    if result is None:
        return None
    return not result


def _compare(kind: str, condition: Mapping[str, Any], scope: Scope) -> bool | None:
    if kind not in _COMPARISONS:
        raise ExpressionError(f"'{kind}' is not a condition type")
    left = _side(condition.get("LeftValue"), scope)
    right = _side(condition.get("RightValue"), scope)
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return None
    try:
        return bool(_COMPARISONS[kind](left, right))
    except TypeError as error:
        raise ExpressionError(
            f"Cannot compare {left!r} with {right!r} in a condition of type '{kind}'"
        ) from error


def _side(value: Any, scope: Scope) -> Any:
    evaluated = evaluate(value, scope)
    if isinstance(evaluated, Unknown) and "Std:JsonGet" in value:
        raise ExpressionError(
            f"{evaluated} cannot be read: the file does not exist. In the emulator, a"
            " scenario sets its content."
        )
    return evaluated


def _entries(value: Any) -> list[Any]:
    """Return a list of a definition that nobody has checked."""
    if not isinstance(value, list):
        raise ExpressionError(f"{value!r} is not a list")
    return value


def _all(conditions: Any, scope: Scope) -> bool | None:
    results = [_evaluate(condition, scope) for condition in _entries(conditions)]
    if False in results:
        return False
    if None in results:
        return None
    return True


def _any(conditions: Any, scope: Scope) -> bool | None:
    results = [_evaluate(condition, scope) for condition in _entries(conditions)]
    if True in results:
        return True
    if None in results:
        return None
    return False
