"""The page "Run pipelines on the emulator" shows what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "emulator.md").read_text()


def test_program_of_the_page_runs() -> None:
    """The Python program sets a scenario and adds a fault, and prints the scenario."""
    (program,) = re.findall(r'^```python title="emulate.py"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)

    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    scenarios, calls = result.stdout.splitlines()
    assert "'abalone': {'steps': {'AbaloneTrain'" in scenarios
    assert calls == "[]"
