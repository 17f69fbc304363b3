"""What ``python -m tests.simulation`` does, once the simulation is installed."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.simulation import reached
from tests.simulation.history import History, Result
from tests.simulation.plans import Plan, draw, shrink


def plan_of(name: str, often: Sequence[str] = ()) -> Plan:
    """Return the plan of a file, or that which a seed draws."""
    if name.endswith(".json"):
        return Plan.model_validate_json(Path(name).read_text())
    return draw(name, often)


def run(plan: Plan) -> Result:
    """Return what a plan leads to."""
    return History(plan).run()


def search(
    names: list[str],
    processes: int,
    *,
    wants: str | None = None,
    until: str | None = None,
    often: Sequence[str] = (),
) -> int:
    """
    Run many histories, and print what has gone wrong.

    :param wants: what must be reached, ``all`` or ``some``; see ``reached.missing``.
    :param until: the statement of the oracle that ends the search if it does not hold.
    :param often: as for ``plans.draw``.
    :return: the exit status.
    """
    begin = time.monotonic()
    kinds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    switches = 0
    digest = 0
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for found in pool.imap(partial(_summary, often), names):
            for text in found.texts:
                print(f"{found.name}: {text}", flush=True)
            kinds.update(found.kinds)
            counts.update(found.counts)
            switches += found.switches
            digest ^= int(found.digest, 16)
            if until in found.kinds:
                pool.terminate()
                print(f"{until} in {names.index(found.name) + 1} histories")
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
        f" second; {switches} switches; {dict(kinds)}; {len(missing)} not reached;"
        f" digest {digest:012x}"
    )
    return 1 if kinds or unexpected or (wants and missing) else 0


class Summary(NamedTuple):
    """What is shown of one history among many."""

    name: str
    kinds: list[str]
    texts: list[str]
    counts: dict[str, int]
    switches: int
    digest: str


def _summary(often: Sequence[str], name: str) -> Summary:
    reached.COUNTS.clear()
    result = run(plan_of(name, often))
    texts = {each.rule: str(each) for each in reversed(result.judgement.violations)}
    return Summary(
        name,
        result.kinds,
        [*texts.values(), *result.errors],
        dict(reached.COUNTS + result.judgement.counts),
        result.switches,
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
    print(f"digest {result.journal.digest}, {result.switches} switches")
