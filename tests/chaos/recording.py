"""
Records how the worker of a task is killed and the one execution goes on, as an animated
picture for the README:

    python -m tests.chaos.recording

``make recording`` runs it. It runs case 5 of the suite in a real Airflow, checks it,
and writes what the task and the scheduler have logged, with the times of the logs.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from textwrap import wrap
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from tests.chaos.cases import CASES
from tests.chaos.cases.case import Case
from tests.chaos.checks import Outcome
from tests.chaos.deployment.airflow_deployment import LOCAL, AirflowDeployment
from tests.chaos.run import Run, Steps
from tests.chaos.runner import Runner
from tests.chaos.scenarios.shared import wait_for_end
from tests.chaos.scenarios.workers import kill_worker
from tests.pages import DOCS
from tests.system.process.signals import raise_on_signals

PICTURE: Final = DOCS / "images" / "one-execution.svg"
CASE: Final = "5"
# The lines of a task's log that are shown, up to the end of the line.
SHOWN: Final = re.compile(r"^(?:Started: |Reattached |Step |Executing -> ).*", re.M)
ARN: Final = re.compile(r"arn:aws:sagemaker:\S+/execution/")
MISSED: Final = re.compile(r"^(\S+Z) .*?(Failing 1 TIs without heartbeat)", re.M)
KILL: Final = "kill -9"
WORKER: Final = "worker"
EMULATOR: Final = "emulator"
TITLE: Final = "make recording: the worker of a task is killed while its execution runs"
# Seconds of the animation: up to the last line, and with the pause after it.
PLAYED: Final = 10.0
LENGTH: Final = 15.0
WIDTH: Final = 900
ROW: Final = 24
TOP: Final = 64
COLUMNS: Final = 88
LINES: Final = "\n"
STYLE: Final = """
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #d7e3e5 }
.paper { fill: #0d2226 }
.title { fill: #ffb547 }
.time { fill: #7f9a9e; text-anchor: end }
.source { fill: #5fd0d8 }
.kill text { fill: #ff8a80 }
.last text { fill: #a5d6a7; font-weight: bold }
@media (prefers-reduced-motion: reduce) { g { animation: none !important } }
"""


class Line(NamedTuple):
    """
    A line of the picture.

    :param at: when it was written (Unix time).
    :param source: who has written it.
    :param text: the text.
    """

    at: float
    source: str
    text: str


def main() -> int:
    """
    Run the case, and write the picture if the case is as it should be.

    :return: the exit status: 0, or 1 if a check has failed.
    """
    raise_on_signals()
    lines: list[Line] = []
    problems: list[str] = []

    def scenario(run: Run) -> Steps:
        run.start()
        yield from kill_worker(run)
        text = f"{KILL} of the worker process that runs the task"
        lines.append(Line(time.time(), WORKER, text))
        yield from wait_for_end(run)

    def report(_: Case, run: Run, outcome: Outcome) -> None:
        problems.extend(outcome.problems)
        lines.extend(logged(run.deployment.logs, run.deployment.airflow.home))
        lines.append(result(run))

    (case,) = (each for each in CASES if each.number == CASE)
    with (
        tempfile.TemporaryDirectory(prefix="polysync-recording-") as home,
        AirflowDeployment(
            Path(home), "polysync", LOCAL, Path(sys.executable)
        ) as airflow,
    ):
        cases = [replace(case, scenario=scenario)]
        Runner(airflow, cases, runs=1, at_once=1, report=report).run()
    if problems:
        print("\n".join(problems))
        return 1
    PICTURE.write_text(picture(sorted(lines)))
    return 0


def logged(logs: Path, home: Path) -> Iterator[Line]:
    """
    Read the lines of the tries, and when the scheduler has noticed the death.

    :param logs: the folder of the logs of tasks.
    :param home: the folder with the log of the scheduler.
    """
    for log in logs.rglob("attempt=*.log"):
        source = f"try {log.stem.removeprefix('attempt=')}"
        for entry in map(json.loads, log.read_text().splitlines()):
            for text in SHOWN.findall(entry["event"]):
                yield Line(seconds(entry["timestamp"]), source, ARN.sub("", text))
    missed = MISSED.search((home / "scheduler.log").read_text())
    assert missed, "the scheduler has not noticed that the worker is dead"
    yield Line(seconds(missed[1]), "scheduler", missed[2])


def result(run: Run) -> Line:
    """Count what AWS was asked for, after the end of the task."""
    starts = len(run.calls("StartPipelineExecution"))
    stops = len(run.calls("StopPipelineExecution"))
    statuses = ", ".join(each.status for each in run.executions())
    text = f"starts: {starts}, stops: {stops}, executions: {statuses}; the task: "
    return Line(time.time(), EMULATOR, text + ", ".join(run.states()))


def seconds(timestamp: str) -> float:
    """Return the Unix time of a timestamp of a log."""
    return datetime.fromisoformat(timestamp).timestamp()


def picture(lines: Sequence[Line]) -> str:
    """Return the picture of the lines, which appear as they did, but faster."""
    begin = lines[0].at
    speed = PLAYED / (lines[-1].at - begin)
    rows: list[str] = []
    y = TOP
    for number, line in enumerate(lines):
        texts = wrap(line.text, COLUMNS)
        appears = (line.at - begin) * speed / LENGTH * 100
        rows.append(_row(number, line, f"{line.at - begin:.1f} s", texts, appears, y))
        y += ROW * len(texts)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img">
<title>{TITLE}; its one execution goes on</title>
<style>{STYLE}</style>
<rect class="paper" width="{WIDTH}" height="{y}" rx="8"/>
<text class="title" x="20" y="32">{TITLE}</text>
{LINES.join(rows)}
</svg>
"""


def _row(
    number: int, line: Line, passed: str, texts: list[str], appears: float, y: int
) -> str:
    kind = "kill" if line.text.startswith(KILL) else ""
    if line.source == EMULATOR:
        kind = "last"
    spans = "".join(
        f'<tspan x="190" y="{y + ROW * row}">{escape(text)}</tspan>'
        for row, text in enumerate(texts)
    )
    return f"""\
<style>@keyframes k{number} {{
0%, {appears:.2f}% {{ opacity: 0 }} {appears + 0.01:.2f}%, 100% {{ opacity: 1 }}
}}</style>
<g class="{kind}" style="animation: k{number} {LENGTH:.0f}s infinite">
<text class="time" x="80" y="{y}">{passed}</text>
<text class="source" x="100" y="{y}">{line.source}</text>
<text>{spans}</text></g>"""


if __name__ == "__main__":
    sys.exit(main())
