"""
Owns the benchmark of signing in: how long many triggers that start at once hold up the triggerer.

::

    python -m tests.benchmarks.sign_in_stall

Every trigger waits for an execution of its own and signs in by a role, while STS is slow. Ours and the amazon
provider's run one after the other, each in a fresh process; the emulator has a process of its own, too. The
amazon provider's triggers need ``apache-airflow-providers-amazon[aiobotocore]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from polysync_airflow.states import FIRST_LOOK_SECONDS
from tests.benchmarks.account import Account
from tests.benchmarks.triggerer import READY, Measured
from tests.system.local_emulator import REGION, LocalEmulator

DEFINITIONS: Final = Path(__file__).parents[2] / "example_dags" / "definitions"
PACKAGES: Final = ("polysync-airflow", "apache-airflow-providers-amazon", "botocore", "aiobotocore")
# Seconds: both look this often, and executions go on until after our first look.
POLL: Final = 5
EXECUTION: Final = 8
# Beyond the limit, for a process that its triggers hold up.
GRACE: Final = 60


@dataclass(frozen=True)
class Provider:
    """
    A provider whose triggers are measured.

    :param name: the column's.
    :param class_path: the trigger's.
    :param arguments: the trigger's, for an execution's ARN.
    :param succeeded: whether an event is that of a success.
    """

    name: str
    class_path: str
    arguments: Callable[[str], dict[str, Any]]
    succeeded: Callable[[Mapping[str, Any]], bool]


def _ours(arn: str) -> dict[str, Any]:
    now = time.time()
    return {
        "execution_arn": arn,
        "pipeline_name": None,
        "polysync_conn_id": "polysync_default",
        "region_name": REGION,
        "poll_interval": POLL,
        "since": now,
        "deadline": now + 3600,
    }


def _amazon(arn: str) -> dict[str, Any]:
    return {
        "waiter_type": 1,
        "pipeline_execution_arn": arn,
        "waiter_delay": POLL,
        "waiter_max_attempts": 720,
        "aws_conn_id": "aws_default",
        "region_name": REGION,
    }


OURS: Final = Provider(
    "ours",
    "polysync_airflow.triggers.PolysyncPipelineExecutionTrigger",
    _ours,
    lambda event: event["status"] == "Succeeded",
)
AMAZON: Final = Provider(
    "amazon provider",
    "airflow.providers.amazon.aws.triggers.sagemaker.SageMakerPipelineTrigger",
    _amazon,
    lambda event: event["status"] == "success",
)


@dataclass(frozen=True)
class Column:
    """
    What came of a provider's triggers.

    :param provider: whose.
    :param measured: what its process saw.
    :param calls: what AWS saw.
    :param triggers: how many there were.
    """

    provider: Provider
    measured: Measured
    calls: Sequence[Mapping[str, Any]]
    triggers: int

    @property
    def rows(self) -> dict[str, str]:
        """The figures by their names."""
        seen = self.measured
        return {
            "longest stall of the event loop": f"{1000 * seen.stall:,.0f} ms",
            "99th percentile of the event loop's lag": f"{1000 * seen.lag:,.0f} ms",
            "calls to STS": str(sum(call["service"] == "sts" for call in self.calls)),
            "CPU": f"{seen.cpu:.1f} s",
            "peak memory above the start": f"{seen.memory / 2**20:,.0f} MiB",
            "until the last trigger's first look": self._last_first_look(),
            "until the last trigger fired": f"{seen.wall:.1f} s" if not self._late else "not all did",
            "failures": str(self._failures),
        }

    @property
    def note(self) -> str | None:
        """The first failure, if there is one."""
        return next(iter([*self.measured.errors, *map(str, self._bad)]), None)

    @property
    def _late(self) -> int:
        return self.triggers - len(self.measured.events) - len(self.measured.errors)

    @property
    def _failures(self) -> int:
        return len(self.measured.errors) + len(self._bad)

    @property
    def _bad(self) -> Sequence[Any]:
        said = self.measured.events
        return [events for events in said if len(events) != 1 or not self.provider.succeeded(events[0])]

    def _last_first_look(self) -> str:
        first: dict[str, float] = {}
        for call in self.calls:
            if call["operation"] == "DescribePipelineExecution" and call["status"] == 200:
                at = datetime.fromisoformat(call["wall_time"]).timestamp() - self.measured.started_at
                arn = call["request"]["PipelineExecutionArn"]
                first[arn] = min(at, first.get(arn, at))
        if len(first) < self.triggers:
            return f"not in {self.measured.wall:.0f} s: {len(first)} of {self.triggers} looked"
        return f"{max(first.values()):.1f} s"


def measure(
    provider: Provider, account: Account, emulator: LocalEmulator, options: argparse.Namespace
) -> Column:
    """
    Run a provider's triggers in a fresh process.

    :param provider: whose triggers.
    :param account: where their executions are.
    :param emulator: the account's.
    :param options: the command line.
    """
    command = [sys.executable, "-m", "tests.benchmarks.triggerer", provider.class_path]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AIRFLOW_"))}
    with tempfile.TemporaryDirectory(prefix="polysync-benchmark-") as home:
        env |= {"AIRFLOW_HOME": home, "AWS_EC2_METADATA_DISABLED": "true", **account.connections}
        log = Path(home) / "triggerer.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        try:
            assert process.stdout
            if not any(line.strip() == READY for line in process.stdout):
                raise RuntimeError(f"The triggers could not be imported:\n{log.read_text()}")
            arguments = [provider.arguments(arn) for arn in account.start(options.triggers)]
            emulator.control.clear_calls()
            orders = json.dumps({"arguments": arguments, "limit": options.limit})
            said, _ = process.communicate(f"{orders}\n", timeout=options.limit + GRACE)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise RuntimeError(f"The process ended with {process.returncode}:\n{log.read_text()}")
    measured = Measured(**json.loads(said.splitlines()[-1]))
    return Column(provider, measured, emulator.control.calls(), options.triggers)


def table(columns: Sequence[Column]) -> str:
    """Return the columns as a Markdown table."""
    names = [column.provider.name for column in columns]
    rows = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    cells = [column.rows for column in columns]
    rows += [f"| {name} | {' | '.join(each[name] for each in cells)} |" for name in cells[0]]
    notes = [f"\n{column.provider.name}: first failure: {column.note}" for column in columns if column.note]
    return "\n".join([*rows, *notes])


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sign_in_stall", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--triggers", type=int, default=200, help="how many start at once (default: %(default)s)")
    add("--latency", type=float, default=0.5, help="seconds until STS answers (default: %(default)s)")
    add("--limit", type=float, default=40, help="seconds for each provider's triggers (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Print the table.

    :param arguments: the command line; None for the process's own.
    :returns: the exit status.
    """
    options = _options(arguments)
    providers = [OURS, AMAZON] if find_spec("aiobotocore") else [OURS]
    print(f"{_versions()}; {os.cpu_count()} CPUs.", flush=True)
    print(
        f"{options.triggers} triggers start at once, each for an execution of its own; STS answers after "
        f"{1000 * options.latency:.0f} ms; each provider has {options.limit:g} s. Ours takes its first look after "
        f"{FIRST_LOOK_SECONDS:g} s at the soonest.\n",
        flush=True,
    )
    with (
        tempfile.TemporaryDirectory(prefix="polysync-emulator-") as home,
        LocalEmulator(Path(home), speed=1, definitions=DEFINITIONS) as emulator,
    ):
        account = Account(emulator, EXECUTION)
        emulator.control.add_fault("latency", "AssumeRole", delay=options.latency)
        columns = [measure(provider, account, emulator, options) for provider in providers]
    print(table(columns))
    if len(providers) == 1:
        print("\nWithout aiobotocore the amazon provider's triggers cannot run, so only ours did.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
