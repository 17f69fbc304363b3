"""The recipe of the page "Test your DAGs" runs as it is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.testing.conftest import ROOT

pytest_plugins = ("pytester",)

PAGE = (ROOT / "docs" / "how-to" / "test-dags.md").read_text()
FILES = dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
MAX_LINES = 15


def test_recipe_passes(project: Callable[..., pytest.RunResult]) -> None:
    """Both tests of the page pass, without any configuration. The durations are printed for the reader."""
    result = project(FILES, "--durations=6", "-vv")

    result.assert_outcomes(passed=2)
    assert "slowest" in result.stdout.str()


def test_recipe_is_short() -> None:
    """The page has a DAG file, and a test file of at most fifteen lines."""
    assert set(FILES) == {"dags/retraining.py", "tests/test_retraining.py"}
    assert len(FILES["tests/test_retraining.py"].splitlines()) <= MAX_LINES
