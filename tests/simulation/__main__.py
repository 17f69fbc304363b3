"""
``python -m tests.simulation``: search for plans that fail, show and shrink them.

The histories have this process for themselves: what they replace stays replaced.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation import installed

if TYPE_CHECKING:
    from tests.simulation.history import Result
    from tests.simulation.plans import Plan


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("search", help="run the plans that seeds draw")
    command.add_argument("first", type=int, help="the first seed")
    command.add_argument("count", type=int, help="how many seeds")
    command.add_argument("--plans", nargs="*", default=[], help="stored ones besides")
    for name, text in (("replay", "show a history"), ("shrink", "find its kernel")):
        command = commands.add_parser(name, help=text)
        command.add_argument("plan", help="a seed, or a file")
    command.add_argument("file", nargs="?", help="gets the plan as JSON")
    options = parser.parse_args(arguments)
    installed.install()
    if options.command == "search":
        seeds = range(options.first, options.first + options.count)
        return _search([*options.plans, *map(str, seeds)])
    result = _run(_plan(options.plan))
    if options.command == "shrink" and result.kinds:
        result = _shrunk(result)
    _show(result)
    if options.command == "shrink" and options.file:
        Path(options.file).write_text(result.plan.model_dump_json(indent=1) + "\n")
    return 1 if result.kinds else 0


def _plan(name: str) -> Plan:
    """Return the plan of a file, or that which a seed draws."""
    from tests.simulation.plans import Plan, draw

    if name.endswith(".json"):
        return Plan.model_validate_json(Path(name).read_text())
    return draw(name)


def _run(plan: Plan) -> Result:
    from tests.simulation.history import History

    return History(plan).run()


def _search(names: list[str]) -> int:
    begin = time.process_time()
    kinds: Counter[str] = Counter()
    switches = 0
    digest = 0
    for name in names:
        result = _run(_plan(name))
        switches += result.switches
        digest ^= int(result.journal.digest, 16)
        kinds.update(result.kinds)
        for kind in result.kinds:
            texts = [str(each) for each in result.violations if each.rule == kind]
            text = (texts or result.errors)[0]
            print(f"{name}: {text}", flush=True)
    seconds = time.process_time() - begin
    print(
        f"{len(names)} histories in {seconds:.1f} s of CPU,"
        f" {len(names) / seconds:.1f} a second; {switches} switches;"
        f" {dict(kinds)}; digest {digest:012x}"
    )
    return 1 if kinds else 0


def _shrunk(result: Result) -> Result:
    from tests.simulation.plans import shrink

    wanted = result.kinds[0]
    plan, tried = shrink(result.plan, lambda plan: wanted in _run(plan).kinds)
    print(f"{len(plan.actions)} actions are left after {tried} histories")
    return _run(plan)


def _show(result: Result) -> None:
    print(result.plan.model_dump_json(indent=1))
    print(result.journal.trace)
    print(*result.violations, *result.errors, sep="\n")
    print(f"digest {result.journal.digest}, {result.switches} switches")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
