"""
Measures what importing an operator module costs each time Airflow parses a DAG file.

``make import-cost`` runs it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

OURS: Final = "polysync_airflow.operators"
MODULES: Final = (OURS, "airflow.providers.amazon.aws.operators.sagemaker")
# What takes time to import, and is needed only when a task runs. The first two load
# AWS's service models.
HEAVY: Final = (
    "boto3",
    "botocore",
    "polysync_airflow.execution.lifecycle.instructions",
    "polysync_airflow.execution.waiter",
)
RUNS: Final = 7

_PROGRAM: Final = """
import json, sys, time
import airflow.sdk
before, start = len(sys.modules), time.process_time()
__import__(sys.argv[1])
seconds, added = time.process_time() - start, len(sys.modules) - before
print(json.dumps([seconds, added, [name for name in sys.argv[2:] if name in sys.modules]]))
"""


@dataclass(frozen=True)
class ImportCost:
    """
    The cost of importing a module after ``import airflow.sdk``.

    :param seconds: CPU seconds, the median of several interpreters.
    :param modules: number of modules that are imported.
    :param heavy: the packages of ``HEAVY`` that are imported.
    """

    seconds: float
    modules: int
    heavy: tuple[str, ...]


def measure(module: str, *, runs: int = RUNS) -> ImportCost:
    """
    Import a module in new interpreters, and return the cost.

    :param module: full name of the module.
    :param runs: number of interpreters.
    """
    results = [_import_once(module) for _ in range(runs)]
    _, modules, heavy = results[0]
    return ImportCost(
        statistics.median(result[0] for result in results), modules, tuple(heavy)
    )


def main() -> int:
    """
    Print the costs of this provider and of the amazon provider.

    :return: the exit status: 1 if this provider imports a package of ``HEAVY``.
    """
    costs = {module: measure(module) for module in MODULES}
    width = max(len(module) for module in MODULES)
    print(
        f"Cost of an import after `import airflow.sdk`, median of {RUNS} new interpreters:\n"
    )
    print(f"{'module':{width}}  CPU seconds  modules  of what is heavy")
    for module, cost in costs.items():
        heavy = ", ".join(cost.heavy) or "nothing"
        print(f"{module:{width}}  {cost.seconds:11.3f}  {cost.modules:7}  {heavy}")
    return 1 if costs[OURS].heavy else 0


def _import_once(module: str) -> tuple[float, int, list[str]]:
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM, module, *HEAVY],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, modules, heavy = json.loads(process.stdout.splitlines()[-1])
    return seconds, modules, heavy


if __name__ == "__main__":
    sys.exit(main())
