"""
Tests that Ctrl-C ends the demo cleanly, and what it offers while it stays. CI also runs
the complete demo.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.browser.arranged import LOG_LINES, REASON
from tests.system.airflow.client import AirflowError
from tests.system.airflow.client_v2 import ClientV2
from tests.system.demo import kept, shown
from tests.system.process.sessions import ProcessError, ProcessSession, wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def processes_of(folder: Path) -> list[int]:
    """Return the ids of all processes that use a folder as ``TMPDIR``."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                pids.append(process.pid)
        except psutil.Error:
            continue  # the process ended meanwhile, or belongs to another user
    return pids


def started(tmp_path: Path, *options: str) -> tuple[ProcessSession, Path]:
    """Start the demo, and return it and its ``TMPDIR``."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    demo = ProcessSession(
        "the demo",
        [sys.executable, "-m", "tests.system.demo", *options],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        log=tmp_path / "demo.log",
    )
    return demo, folder


def kill(folder: Path) -> None:
    """Kill what is left of the demo."""
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "progress",
    [
        "waiting for the tables of the database",
        *(
            pytest.param(f"waiting for {process}", marks=pytest.mark.nightly)
            for process in ("api-server", "the DAG processor")
        ),
    ],
)
def test_ctrl_c_removes_processes_and_files(tmp_path: Path, progress: str) -> None:
    """
    After Ctrl-C the demo exits with status 130, and its processes and its temporary
    folder are gone.
    """
    demo, folder = started(tmp_path)
    try:
        assert wait_until(lambda: progress in demo.log.read_text(), timeout=120)
        assert len(processes_of(folder)) > 1
        assert list(folder.iterdir())

        os.kill(demo.pid, signal.SIGINT)

        with pytest.raises(
            ProcessError,
            match=r"status 130(?s:.*)Interrupted\. All processes were stopped\.",
        ):
            demo.wait(timeout=60)
        assert processes_of(folder) == []
        assert list(folder.iterdir()) == []
    finally:
        kill(folder)


@pytest.fixture
def own_dag() -> Iterator[str]:
    """A DAG in the folder that the demo names."""
    dag_id = f"of_the_test_{os.getpid()}"
    kept.OWN_DAGS.mkdir(exist_ok=True)
    file = kept.OWN_DAGS / f"{dag_id}.py"
    file.write_text(
        f"from airflow.sdk import DAG\n\nwith DAG({dag_id!r}, schedule=None):\n    pass\n"
    )
    yield dag_id
    file.unlink()


def check_what_is_shown(client: ClientV2, text: str, url: str) -> None:
    """Check that each DAG ends as the demo says, and what its task has stored."""
    for each in shown.ALL:
        assert each.url(url) in text
        end = client.wait_for_run(each.dag_id, shown.RUN, timeout=180)
        assert (each.dag_id, end) == (each.dag_id, each.end)

    def xcom(dag_id: str, task_id: str, key: str = "run") -> Any:
        return client.xcom(dag_id, shown.RUN, task_id, key)

    (failed,) = [
        step
        for step in xcom("demo_failure", "retrain", "steps")
        if step["state"] == "Failed"
    ]
    assert failed["name"] == "TrainBest"
    # The emulator writes its own lines before.
    assert failed["log_lines"][-len(LOG_LINES) :] == LOG_LINES
    assert REASON in failed["reason"]
    resumed = xcom("demo_resume", "retrain")
    assert (resumed["state"], resumed["resumes"]) == ("Success", 1)
    (task,) = client.tasks("demo_resume", shown.RUN)
    assert task["try_number"] == 2
    waited = xcom("demo_capacity", "score")
    assert (waited["state"], waited["resumes"]) == ("Success", 2)
    (task,) = client.tasks("demo_capacity", shown.RUN)
    assert task["try_number"] == 1
    stopped = xcom("demo_limit", "train")
    spending = stopped["spending"]
    # Within two lists of the steps, of ten seconds each.
    most = spending["max_cost"] + 2 * 10 / 3600 * kept.PRICE
    assert stopped["stop"]["reason"] == "cost"
    assert spending["max_cost"] <= spending["amount"] < most
    steps = client.task_states("steps_as_tasks", shown.RUN)
    assert (steps["churn.ChurnTune"], steps["deploy"]) == ("success", "success")


@pytest.mark.nightly
def test_what_the_demo_says_while_it_stays_is_so(tmp_path: Path, own_dag: str) -> None:
    """
    People sign in, DAGs start by themselves, a DAG of one's own is there, and commands
    reach the emulator.
    """
    demo, folder = started(tmp_path, "--keep")
    try:
        assert wait_until(
            lambda: demo.log.read_text().count(" was started by ") == len(kept.STARTED),
            timeout=400,
        )
        text = demo.log.read_text()
        (url,) = re.findall(r"^Sign in at (\S+)$", text, re.MULTILINE)
        people = re.findall(r"^  user (\S+), password (\S+):", text, re.MULTILINE)
        assert people == [kept.ADMIN, kept.VIEWER]
        admin, viewer = ClientV2(url), ClientV2(url)
        admin.sign_in(*people[0])
        viewer.sign_in(*people[1])
        assert admin.description(own_dag) is None
        assert all(viewer.dag_runs(dag_id) for dag_id in kept.STARTED)
        check_what_is_shown(admin, text, url)
        assert admin.trigger(own_dag)
        with pytest.raises(AirflowError, match="403"):
            viewer.trigger(own_dag)
        with pytest.raises(AirflowError, match="401"):
            ClientV2(url).dag_runs(own_dag)

        commands = [
            line
            for line in text.splitlines()
            if re.match("  (export|/.*polysync) ", line)
        ]
        listed = subprocess.run(
            ["bash", "-ec", "\n".join(commands)],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "demo_schedule/retrain" in listed.stdout
        assert "Nothing follows by itself: the task has failed." in listed.stdout
        assert "not known" not in listed.stdout + listed.stderr

        os.kill(demo.pid, signal.SIGINT)

        demo.wait(timeout=60)
        assert (processes_of(folder), list(folder.iterdir())) == ([], [])
    finally:
        kill(folder)
