"""
The recipe of the page "Test your DAGs" is short.
``tests/documentation/test_code_blocks.py`` runs it.
"""

from __future__ import annotations

import re

from tests.pages import page

PAGE = page("how-to/test-dags.md").text
FILES = dict(
    re.findall(
        r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL
    )
)
MAX_LINES = 16


def test_recipe_is_short() -> None:
    """
    The page has a DAG file, and a test file of at most 16 lines; another one is
    about conditions.
    """
    assert set(FILES) == {
        "dags/retraining.py",
        "tests/test_retraining.py",
        "tests/test_bad_model.py",
    }
    assert len(FILES["tests/test_retraining.py"].splitlines()) <= MAX_LINES
