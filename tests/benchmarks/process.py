"""Owns a fresh process that something is measured in: an Airflow home of its own, and nothing of the person's."""

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
_FOREIGN: Final = ("AWS_", "AIRFLOW", "_AIRFLOW", "PYTEST_")
_OWN: Final = {
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
    orders: Callable[[], Mapping[str, Any]],
    timeout: float,
) -> Any:
    """
    Run a module in a fresh process and return what its last line of output says, which is JSON.

    :param module: prints ``ready``, and then reads its orders as a line of JSON.
    :param arguments: its command line.
    :param env: what its environment has besides the common.
    :param orders: asked for once it is ready.
    :param timeout: seconds from then on.
    :raises RuntimeError: with its log, if it fails.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    with tempfile.TemporaryDirectory(prefix="polysync-benchmark-") as home:
        log = Path(home) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**own, **_OWN, "AIRFLOW_HOME": home, **env},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            assert process.stdout
            if not any(line.strip() == READY for line in process.stdout):
                raise RuntimeError(f"{module} did not become ready:\n{log.read_text()}")
            said, _ = process.communicate(f"{json.dumps(orders())}\n", timeout=timeout)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise RuntimeError(f"{module} ended with {process.returncode}:\n{log.read_text()}")
    return json.loads(said.splitlines()[-1])
