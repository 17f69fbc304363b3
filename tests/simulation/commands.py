"""What ``python -m tests.simulation`` does, once the simulation is installed."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.simulation import limits, reached
from tests.simulation.faults import Fault
from tests.simulation.history import History, Result
from tests.simulation.plans import Plan, draw, shrink


def plan_of(name: str, fault: Fault | None) -> Plan:
    """
    Return the plan of a file, one of the limits, or that which a seed draws.

    :param fault: which fault is to be found.
    """
    if name.endswith(".json"):
        return Plan.model_validate_json(Path(name).read_text())
    if name in limits.PLANS:
        return limits.PLANS[name]
    if fault is None:
        return draw(name)
    return draw(name, fault.often)


def run(plan: Plan) -> Result:
    """Return what a plan leads to."""
    return History(plan).run()


def search(names: list[str], fault: Fault | None, *, wants: str | None) -> int:
    """
    Run many histories, and print what has gone wrong.

    :param fault: ends the search if it is found.
    :param wants: what must be reached, ``all`` or ``some``; see ``reached.missing``.
    :return: the exit status.
    """
    begin = time.monotonic()
    kinds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    digest = 0
    with multiprocessing.get_context("fork").Pool() as pool:
        for found in pool.imap(partial(_summary, fault), names):
            for text in found.texts:
                print(f"{found.name}: {text}", flush=True)
            kinds.update(found.kinds)
            counts.update(found.counts)
            digest ^= int(found.digest, 16)
            if fault and fault.finds in found.kinds:
                pool.terminate()
                print(f"{fault.finds} in {names.index(found.name) + 1} histories")
                return 1
    seconds = time.monotonic() - begin
    missing = reached.missing(counts, from_many=wants != "some")
    unexpected = reached.unexpected(counts)
    if wants:
        print(
            "Reached:", *(f"{n} {name}" for name, n in sorted(counts.items())), sep="\n"
        )
        print("Not reached:", *missing, sep="\n")
        print("Not to be reached:", *unexpected, sep="\n")
    print(
        f"{len(names)} histories in {seconds:.1f} s, {len(names) / seconds:.1f} a"
        f" second; {dict(kinds)}; {len(missing)} not reached;"
        f" digest {digest:012x}"
    )
    return int(bool(kinds or unexpected or (wants and missing)))


class Summary(NamedTuple):
    """What is shown of one history among many."""

    name: str
    kinds: list[str]
    texts: list[str]
    counts: dict[str, int]
    digest: str


def _summary(fault: Fault | None, name: str) -> Summary:
    reached.COUNTS.clear()
    result = run(plan_of(name, fault))
    texts = {each.rule: str(each) for each in reversed(result.judgement.violations)}
    return Summary(
        name,
        result.kinds,
        [*texts.values(), *result.errors],
        dict(reached.COUNTS + result.judgement.counts),
        result.journal.digest,
    )


def shrunk(result: Result) -> Result:
    """Return what the smallest plan leads to that fails in the same way."""
    wanted = result.kinds[0]
    plan, tried = shrink(result.plan, lambda plan: wanted in run(plan).kinds)
    print(f"{len(plan.actions)} actions are left after {tried} histories")
    return run(plan)


def show(result: Result) -> None:
    """Print a history."""
    print(result.plan.model_dump_json(indent=1))
    print(result.journal.trace)
    print(*result.judgement.violations, *result.errors, sep="\n")
    print(f"digest {result.journal.digest}")
