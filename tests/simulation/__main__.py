"""
``python -m tests.simulation``: search for plans that fail, show and shrink them.

The histories have this process for themselves: what they replace stays replaced.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.simulation import faults, installed


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("--faults", nargs="*", help="find all faults, or some")
    commands = parser.add_subparsers(dest="command")
    command = commands.add_parser("search", help="run the plans that seeds draw")
    command.add_argument("first", type=int, help="the first seed")
    command.add_argument("count", type=int, help="how many seeds")
    command.add_argument("--plans", nargs="*", default=[], help="stored ones besides")
    command.add_argument(
        "--wants", choices=["all", "some"], help="fail if it was not reached"
    )
    for name, text in (("replay", "show a history"), ("shrink", "find its kernel")):
        command = commands.add_parser(name, help=text)
        command.add_argument("plan", help="a seed, or a file")
        command.add_argument("file", nargs="?", help="gets the plan as JSON")
    for command in commands.choices.values():
        command.add_argument("--fault", help="one of faults.py is put in")
    options = parser.parse_args(arguments)
    if options.faults is not None:
        return faults.find(options.faults)
    if options.command is None:
        parser.error("say what to do, or --faults")
    fault = options.fault and faults.named(options.fault)
    if fault:
        faults.put_in(fault)
    installed.install()
    # These import the provider, which must find the simulation.
    from tests.simulation import commands as simulation

    if options.command == "search":
        seeds = range(options.first, options.first + options.count)
        names = [*options.plans, *map(str, seeds)]
        return simulation.search(names, fault, wants=options.wants)
    result = simulation.run(simulation.plan_of(options.plan, fault))
    if options.command == "shrink" and result.kinds:
        result = simulation.shrunk(result)
    simulation.show(result)
    if options.command == "shrink" and options.file:
        Path(options.file).write_text(result.plan.model_dump_json(indent=1) + "\n")
    return int(bool(result.kinds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
