"""
Measures how long the page with all executions takes in a browser, with PostgreSQL.

::

    python -m tests.benchmarks.page_benchmark --executions 10000 --dags 50

The browser has loaded Airflow's UI before. The CPU time is that of the API server,
which other programs of the machine do not change much.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from tests.browser.airflow_site import ApiServer, Site
from tests.browser.chromium import running_chromium
from tests.browser.conftest import open_window
from tests.browser.many_executions import add_executions
from tests.browser.tab_page import TabPage
from tests.chaos.deployment.postgres import private_postgres

# What is opened: the query string, by what it is about.
QUERIES: Final = {
    "all": "",
    "in the middle": "?offset=5000",
    "failed": "?state=Failed",
    "of one DAG": "?dag=retraining_07",
    "of one pipeline": "?pipeline=pipeline-07",
}


def cpu_seconds(airflow: ApiServer) -> float:
    """Return the CPU time that the API server has used."""
    server = psutil.Process(airflow.components["api-server"].pid)
    times = [
        process.cpu_times() for process in (server, *server.children(recursive=True))
    ]
    return sum(each.user + each.system for each in times)


def measure(
    page: TabPage, query: str, airflow: ApiServer
) -> tuple[float, float, float, float, int]:
    """
    Return after how many seconds the first rows and all values are shown, with the CPU
    time; and the number of requests.

    :param query: the query string of the page.
    """
    page.page.goto(airflow.url)
    page.page.get_by_role("link", name="Home").first.wait_for()
    page.page.wait_for_load_state("networkidle")
    page.api_requests.clear()
    began, used = time.monotonic(), cpu_seconds(airflow)
    page.open_executions(query)
    page.tab.locator(".psm-executions tbody tr").first.wait_for()
    first, first_used = time.monotonic() - began, cpu_seconds(airflow) - used
    page.rows()
    return (
        first,
        first_used,
        time.monotonic() - began,
        cpu_seconds(airflow) - used,
        len(page.api_requests),
    )


def main() -> None:
    """Fill an Airflow, open the page in several ways, and print the medians."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.page_benchmark", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--executions",
        type=int,
        default=10_000,
        help="number of task instances (%(default)s)",
    )
    parser.add_argument(
        "--dags", type=int, default=50, help="number of DAGs (%(default)s)"
    )
    parser.add_argument(
        "--running", type=int, default=12, help="how many of them run (%(default)s)"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=3,
        help="number of runs, whose medians are shown (%(default)s)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, private_postgres() as postgres:
        settings = {"POLYSYNC_TEST_DAGS": str(options.dags)}
        airflow = ApiServer(Path(home), settings, database=postgres.url)
        with airflow, running_chromium() as browser:
            site = Site(airflow)
            add_executions(site, options.dags, options.executions, options.running)
            page = open_window(browser, site)
            print(
                f"{options.executions:,} executions of {options.dags} DAGs, {options.running} running"
            )
            for name, query in QUERIES.items():
                results = [measure(page, query, airflow) for _ in range(options.runs)]
                first, first_used, last, used, requests = (
                    statistics.median(column) for column in zip(*results, strict=True)
                )
                print(
                    f"{name:16}  first rows {first:5.2f} s, CPU {first_used:4.2f} s   all values {last:5.2f} s, "
                    f"CPU {used:4.2f} s   requests {requests:.0f}",
                    flush=True,
                )
            site.close()


if __name__ == "__main__":
    main()
