"""
Runs a measurement in a fresh process, with its own Airflow home and none of the user's
AWS or Airflow settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

READY: Final = "ready"
_EXCLUDED_PREFIXES: Final = ("AWS_", "AIRFLOW", "_AIRFLOW", "PYTEST_")
_COMMON: Final = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
}


def measure(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    task: Callable[[], Mapping[str, Any]],
    timeout: float,
) -> Any:
    """
    Run a module in a fresh process, and return the JSON document in its last line of
    output.

    :param module: the module; it must print ``ready`` and then read its task from
        standard input, as a line of JSON.
    :param arguments: its command line arguments.
    :param env: environment variables to add to the common ones.
    :param task: returns the task; called when the process is ready.
    :param timeout: seconds that the process may take for the task.
    :raises RuntimeError: if the process fails; the message contains its log.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_EXCLUDED_PREFIXES)
    }
    with tempfile.TemporaryDirectory(prefix="polysync-benchmark-") as home:
        log = Path(home) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**inherited, **_COMMON, "AIRFLOW_HOME": home, **env},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            assert process.stdout
            if not any(line.strip() == READY for line in process.stdout):
                raise RuntimeError(f"{module} did not become ready:\n{log.read_text()}")
            output, _ = process.communicate(f"{json.dumps(task())}\n", timeout=timeout)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise RuntimeError(
                f"{module} exited with status {process.returncode}:\n{log.read_text()}"
            )
    return json.loads(output.splitlines()[-1])
