"""
Prints how soon a DAG starts after the end of an execution, and what a killed triggerer
loses.

::

    python -m tests.system.events --executions 100
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.tables import machine
from tests.system.events.measurement import (
    deployed,
    kill_between_receive_and_store,
    measure,
)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below or at which a part of the values is."""
    return sorted(values)[max(0, round(len(values) * percent / 100) - 1)]


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.events", description=__doc__
    )
    parser.add_argument(
        "--executions", type=int, default=100, help="number of executions that end"
    )
    parser.add_argument(
        "--killed",
        type=int,
        default=20,
        help="events in flight when the triggerer is killed",
    )
    options = parser.parse_args()
    print(machine(), flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="polysync-events-") as home,
        deployed(Path(home)) as deployment,
    ):
        reactions = measure(deployment, options.executions)
        print(
            "| seconds from the end of the execution | p50 | p99 | max |\n|---|---|---|---|"
        )
        for title, values in (
            ("to the asset event", [each.stored for each in reactions]),
            ("to the start of the DAG run", [each.started for each in reactions]),
            (
                "of which the scheduler of Airflow",
                [each.started - each.stored for each in reactions],
            ),
        ):
            figures = (percentile(values, 50), percentile(values, 99), max(values))
            print(
                f"| {title} | {' | '.join(f'{figure:.1f}' for figure in figures)} |",
                flush=True,
            )
        stored = kill_between_receive_and_store(deployment, options.killed)
        print(
            f"triggerer killed between receive and store, {options.killed} events: {len(set(stored))} asset "
            f"events, {len(stored) - len(set(stored))} of them twice"
        )


if __name__ == "__main__":
    main()
