"""
Compiles each template once, with the same result.

Jinja compiles a text again for each task that has it, and most tasks of tests have the
same few.
"""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import Environment


def install(patch: pytest.MonkeyPatch) -> None:
    """Keep what has been compiled, as long as the patch lasts."""
    compile_text, compiled = Environment.compile, dict[Any, Any]()

    def compile_once(self: Any, source: Any, *arguments: Any, **options: Any) -> Any:
        # The code of these depends on more than the text.
        if arguments or options or self.extensions or not isinstance(source, str):
            return compile_text(self, source, *arguments, **options)
        # Jinja calls filters and tests for constants while it compiles.
        key = type(self), source, *self.filters.items(), *self.tests.items()
        if key not in compiled:
            compiled[key] = compile_text(self, source)
        return compiled[key]

    patch.setattr(Environment, "compile", compile_once)
