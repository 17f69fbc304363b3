"""
Measures what many summaries at once do to an API server of Airflow, with PostgreSQL,
where somebody has planted large XComs ``run`` and ``steps``.

::

    python -m tests.benchmarks.summary_load --executions 10000 --at-once 20 200

Each client asks as the tab and the page do. It reads the XComs of the tasks whose are
large, then asks until it has a summary, after a 429 not before the time that the server
names. With ``--impatient``, it asks for that again at once, for ten seconds. Meanwhile,
another endpoint of Airflow is asked again and again, and a task instance gets the
heartbeats that the supervisor of a running task sends.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import secrets
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx
import jwt
import psutil
import sqlalchemy

from polysync_airflow.ui.plugin import URL_PREFIX
from tests.browser.airflow_site import ApiServer, Site
from tests.browser.many_executions import add_executions
from tests.chaos.deployment.postgres import private_postgres

SUMMARY: Final = f"{URL_PREFIX}/executions-summary"
# What the page reads of a task, then what the tab reads.
KEYS: Final = (
    ("run",),
    ("steps",),
    ("run", "steps", "outputs", "spending", "console_url"),
)
OTHER: Final = "/api/v2/dags?limit=50"
MEBIBYTE: Final = 2**20
# How long another endpoint is asked without a load, and by impatient clients with it.
SECONDS: Final = 10.0
SAMPLE_INTERVAL: Final = 0.02
HEARTBEAT_INTERVAL: Final = 0.5
# After the tests of one number of clients, nothing is shared any more.
PAUSE: Final = 15.0
REQUEST_TIMEOUT: Final = 120.0


@dataclass
class Answers:
    """What the clients got: how many of each status, and when the last one had it."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


async def _ask(
    client: httpx.AsyncClient,
    answers: Answers,
    paths: Sequence[str],
    impatient_until: float | None,
) -> None:
    for path in random.sample(paths, len(paths)):
        try:
            response = await client.get(path)
        except httpx.HTTPError as error:
            answers.statuses[f"XComs {type(error).__name__}"] += 1
        else:
            answers.statuses[f"XComs {response.status_code}"] += 1
    while True:
        try:
            response = await client.get(SUMMARY)
        except httpx.HTTPError as error:
            answers.statuses[type(error).__name__] += 1
            return
        answers.statuses[str(response.status_code)] += 1
        if impatient_until is not None:
            if time.monotonic() > impatient_until:
                return
        elif "Retry-After" in response.headers:
            # As ui/static/executions_summary.js does.
            delay = int(response.headers["Retry-After"]) * (1 + random.random())
            await asyncio.sleep(delay)
        else:
            return


async def _ask_at_once(
    url: str, number: int, paths: Sequence[str], impatient: bool
) -> Answers:
    answers = Answers()
    began = time.monotonic()
    impatient_until = None
    if impatient:
        impatient_until = began + SECONDS
    limits = httpx.Limits(max_connections=number)
    async with httpx.AsyncClient(
        base_url=url, limits=limits, timeout=REQUEST_TIMEOUT, trust_env=False
    ) as client:
        clients = (_ask(client, answers, paths, impatient_until) for _ in range(number))
        await asyncio.gather(*clients)
    answers.seconds = time.monotonic() - began
    return answers


def ask_at_once(
    url: str, number: int, paths: Sequence[str], impatient: bool
) -> Answers:
    """
    Let a number of clients ask. In a process of its own.

    :param paths: of the XComs that they read.
    """
    return asyncio.run(_ask_at_once(url, number, paths, impatient))


class PeakMemory:
    """Context manager that observes the memory of an API server with its processes."""

    def __init__(self, airflow: ApiServer) -> None:
        self._server = psutil.Process(airflow.components["api-server"].pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._observe)
        self.peak = 0

    def now(self) -> int:
        """Return the resident memory, in bytes."""
        processes = (self._server, *self._server.children(recursive=True))
        return sum(process.memory_info().rss for process in processes)

    def _observe(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


class Heartbeats:
    """
    Context manager that sends the heartbeats of a running task instance.

    :param database: the URL of Airflow's database, which gets such a task instance.
    :param secret: what the API server signs tokens with.
    """

    def __init__(self, url: str, database: str, secret: str) -> None:
        task = (
            "UPDATE task_instance SET state = 'running', hostname = 'bench', pid = 1"
            " WHERE id = (SELECT min(id::text)::uuid FROM task_instance) RETURNING id"
        )
        engine = sqlalchemy.create_engine(database)
        with engine.begin() as connection:
            self._id = str(connection.execute(sqlalchemy.text(task)).scalar_one())
        engine.dispose()
        now = int(time.time())
        claims = {
            "sub": self._id,
            "aud": "urn:airflow.apache.org:task",
            "nbf": now,
            "iat": now,
            "exp": now + 24 * 3600,
        }
        token = jwt.encode(claims, secret, algorithm="HS512")
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=REQUEST_TIMEOUT, trust_env=False
        )
        self._ended = threading.Event()
        self.times: list[float] = []
        self.refused = 0

    def _send(self) -> None:
        path = f"/execution/task-instances/{self._id}/heartbeat"
        while True:
            began = time.monotonic()
            response = self._http.put(path, json={"hostname": "bench", "pid": 1})
            self.times.append(time.monotonic() - began)
            self.refused += response.status_code != httpx.codes.NO_CONTENT
            if self._ended.wait(HEARTBEAT_INTERVAL):
                return

    def __enter__(self) -> Heartbeats:
        self.times, self.refused = [], 0
        self._ended.clear()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def time_other(http: httpx.Client, load: Future[Answers] | None = None) -> list[float]:
    """
    Return how long each request of another endpoint took.

    :param load: what has to end; None for some seconds without a load.
    """
    until = time.monotonic() + SECONDS
    times = []
    while load is None or not load.done():
        began = time.monotonic()
        if load is None and began > until:
            break
        http.get(OTHER).raise_for_status()
        times.append(time.monotonic() - began)
    return times


def plant(database: str, sizes: list[int]) -> list[str]:
    """
    Make the newest XComs ``run`` and ``steps`` large, as users can by Airflow's REST
    API, and return the paths of what the page and the tab read of their tasks.

    :param sizes: the size of each, in MB.
    """
    newest = (
        "SELECT x.dag_run_id, x.task_id, x.map_index, x.dag_id, x.run_id"
        " FROM xcom x JOIN dag_run r"
        " ON r.id = x.dag_run_id WHERE x.key = 'run' ORDER BY r.run_after DESC"
    )
    change = sqlalchemy.text(
        "UPDATE xcom SET value = value"
        " || jsonb_build_object('padding', repeat('padding ', :times))"
        " WHERE key IN ('run', 'steps') AND (dag_run_id, task_id, map_index) = (:run, :task, :map)"
    )
    paths = []
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        rows = connection.execute(sqlalchemy.text(newest)).fetchmany(len(sizes))
        for size, (run, task, index, dag_id, run_id) in zip(sizes, rows, strict=True):
            place = {"run": run, "task": task, "map": index}
            connection.execute(change, {"times": size * 125_000, **place})
            key = {"run_id": run_id, "task_id": task, "map_index": index}
            for names in KEYS:
                query = urlencode({**key, "key": names}, doseq=True)
                paths.append(f"{URL_PREFIX}/dags/{dag_id}/xcoms?{query}")
    engine.dispose()
    return paths


def describe_times(times: list[float], before: list[float] | None = None) -> str:
    """Return the median and the worst of some times."""
    middle = statistics.median(times)
    text = f"median {middle * 1000:.0f} ms, worst {max(times) * 1000:.0f} ms"
    if before is not None:
        ratio = middle / statistics.median(before)
        text += f" of {len(times)}, {ratio:.1f} times that without"
    return text


def measure(
    airflow: ApiServer,
    heartbeats: Heartbeats,
    paths: list[str],
    options: argparse.Namespace,
) -> None:
    """Let many clients ask an API server, and print what came of it."""
    spawn = multiprocessing.get_context("spawn")
    with (
        httpx.Client(base_url=airflow.url, timeout=120, trust_env=False) as http,
        ProcessPoolExecutor(1, mp_context=spawn) as clients,
    ):
        # Imports are paid before.
        clients.submit(ask_at_once, airflow.url, 1, paths, False).result()
        time_other(http)
        before = time_other(http)
        print(f"other endpoint without summaries: {describe_times(before)}")
        for number in options.at_once * options.runs:
            time.sleep(PAUSE)
            with PeakMemory(airflow) as memory, heartbeats:
                idle = memory.now()
                load = clients.submit(
                    ask_at_once, airflow.url, number, paths, options.impatient
                )
                times = time_other(http, load)
            answers = load.result()
            statuses = [f"{name}: {count}" for name, count in answers.statuses.items()]
            above, kept = (
                (each - idle) / MEBIBYTE for each in (memory.peak, memory.now())
            )
            print(
                f"{number} at once: above idle {above:.0f} MiB, kept {kept:.0f} MiB"
                f"   answers {', '.join(sorted(statuses))}, the last one after"
                f" {answers.seconds:.1f} s   other endpoint"
                f" {describe_times(times, before)}   heartbeats"
                f" {describe_times(heartbeats.times)} of {len(heartbeats.times)},"
                f" {heartbeats.refused} refused",
                flush=True,
            )


def main() -> None:
    """Fill an Airflow, and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.summary_load", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--executions", type=int, default=10_000, help="number of them (%(default)s)")
    add("--dags", type=int, default=50, help="number of DAGs (%(default)s)")
    add(
        "--at-once",
        type=int,
        nargs="+",
        default=[20, 200],
        help="numbers of clients (%(default)s)",
    )
    add(
        "--planted",
        type=int,
        nargs="*",
        default=[30] * 10 + [100],
        help="sizes of planted XComs in MB (ten of 30, and one of 100)",
    )
    add("--impatient", action="store_true", help="clients ask again at once, for 10 s")
    add("--runs", type=int, default=1, help="how often each is measured (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, private_postgres() as postgres:
        secret = secrets.token_hex(64)
        settings = {
            "POLYSYNC_TEST_DAGS": str(options.dags),
            "AIRFLOW__API_AUTH__JWT_SECRET": secret,
        }
        airflow = ApiServer(Path(home), settings, database=postgres.url)
        with airflow:
            site = Site(airflow)
            add_executions(site, options.dags, options.executions, 12)
            site.close()
            paths = plant(postgres.url, options.planted)
            print(
                f"{options.executions:,} executions of {options.dags} DAGs; planted"
                f" XComs, in MB: {' '.join(map(str, options.planted)) or 'none'}"
            )
            heartbeats = Heartbeats(airflow.url, postgres.url, secret)
            measure(airflow, heartbeats, paths, options)


if __name__ == "__main__":
    main()
