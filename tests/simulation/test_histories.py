"""
At most one execution of a task runs, and none without its task, in simulated histories.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation import allowances, faults, limits

# They do each action. For more: make simulation.
FIRST: Final = 30
HISTORIES: Final = 12
DOCS: Final = Path("docs")
PLANS: Final = sorted((Path(__file__).parent / "plans").glob("*.json"))


def _simulate(*arguments: object) -> str:
    """Run the program in a process of its own, and return what it prints."""
    command = [sys.executable, "-m", "tests.simulation", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_drawn_and_stored_plans_show_no_violation() -> None:
    """All rules of the oracle hold, and so does each limit, wherever a task waits."""
    plans = [*PLANS, *limits.PLANS]
    _simulate("search", FIRST, HISTORIES, "--wants", "some", "--plans", *plans)


@pytest.mark.nightly
def test_a_history_is_the_same_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed decides all, and the order of sets nothing."""
    digests = set()
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        digests.add(_simulate("search", FIRST, HISTORIES).rpartition("digest")[2])
    assert len(digests) == 1


@pytest.mark.parametrize(
    "allowance", [*allowances.ALL, *allowances.OTHERS], ids=lambda each: each.name
)
def test_a_page_says_what_the_oracle_allows(allowance: allowances.Allowance) -> None:
    """Nothing is allowed that users are not told, and each line is allowed or told."""
    assert (DOCS / allowance.page).read_text().count(allowance.line) == 1
    function = f'return _NAMED["{allowance.name}"]'
    is_allowed = function in inspect.getsource(allowances)
    assert is_allowed == bool(allowance.allows) != bool(allowance.why)


def test_the_oracle_knows_each_exception_of_the_page() -> None:
    """Each point of the list is one exception, in the same order; there are few."""
    page = (DOCS / allowances.PROMISE).read_text()
    section = page.partition("## What is not guaranteed\n")[2]
    points = [line for line in section.splitlines() if line.startswith("- ")]
    assert len(points) < 26
    for point, allowance in zip(points, allowances.ALL, strict=True):
        assert allowance.line in point


def test_histories_find_each_fault_that_was_searched_for() -> None:
    """The table has a row for each. ``make simulation ARGS=--faults`` writes it."""
    rows = faults.ROW.findall(faults.TABLE.read_text())
    assert [name for name, _ in rows] == [fault.name for fault in faults.FAULTS]
    assert "not found" not in dict(rows).values()


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda each: each.name)
def test_a_fault_can_be_put_in(fault: faults.Fault) -> None:
    """The module still has the text that the fault changes."""
    module = Path(*fault.module.split(".")).with_suffix(".py")
    compile(faults.changed(fault, module.read_text()), str(module), "exec")
