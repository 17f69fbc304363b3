"""
Creates the stack of ``docs/assets/sagemaker-events.yaml`` in moto, which an emulator of
this process has behind it.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

from moto.backends import get_backend

from tests.pages import DOCS

TEMPLATE: Final = DOCS / "assets" / "sagemaker-events.yaml"
ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"


def create_stack(**parameters: str) -> dict[str, str]:
    """
    Create the stack, without the policy of the queue, which moto does not know.

    :param parameters: the parameters of the template.
    :return: its outputs.
    """
    backend = get_backend("cloudformation")[ACCOUNT][REGION]
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        stack = backend.create_stack(
            f"stack-{len(backend.stacks)}", TEMPLATE.read_text(), parameters
        )
    assert stack.status == "CREATE_COMPLETE"
    return {name: output.value for name, output in stack.output_map.items()}


def rules() -> dict[str, dict[str, Any]]:
    """Return the event patterns of all rules, by their names."""
    backend = get_backend("events")[ACCOUNT][REGION]
    return {
        rule.name: rule.event_pattern.get_pattern()
        for rule in backend.event_buses["default"].rules.values()
    }
