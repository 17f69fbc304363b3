"""
The command line of the emulator: ``sagemaker-emulator``, or ``python -m
sagemaker_emulator``. Its state is in memory only, and gone when it ends.
"""

from __future__ import annotations

import argparse
import errno
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from sagemaker_emulator import EXAMPLE_DEFINITIONS
from sagemaker_emulator.arguments import Parser
from sagemaker_emulator.engine.definition import DefinitionError
from sagemaker_emulator.limits import Limits
from sagemaker_emulator.server.addresses import LOOPBACK, AddressError
from sagemaker_emulator.server.client import PREFIX

if TYPE_CHECKING:
    from sagemaker_emulator import EmulatorServer

PROGRAM: Final = "sagemaker-emulator"


def main(arguments: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """
    Run an emulator until SIGINT or SIGTERM.

    :param arguments: the command-line arguments; None for those of the process.
    :param prog: the name of the command in its messages.
    :return: the exit status: 0, or 2 if the emulator cannot start.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    if arguments and arguments[0] == "verify":
        from sagemaker_emulator.verify.command import main as verify

        return verify(arguments[1:], f"{prog} verify", connection_id=None)
    options = make_parser(prog).parse_args(arguments)
    try:
        from sagemaker_emulator import EmulatorServer

        server = EmulatorServer(
            options.port,
            speed=options.speed,
            definitions=options.definitions,
            region=options.region,
            issuer_ca=options.issuer_ca,
            enforce_iam=options.enforce_iam,
            allowed_hosts=options.allow_host,
            limits=Limits(
                max_steps=options.max_steps,
                max_executions=options.max_executions,
                max_pipelines=options.max_pipelines,
                max_ended_executions=options.max_ended_executions,
                lenient=options.lenient,
            ),
            bind=options.bind,
        )
    except (AddressError, DefinitionError, ImportError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            message = (
                f"port {options.port} is in use: choose another one with --port, or 0"
                " for a free one"
            )
        print(f"error: {message}", file=sys.stderr)
        return 2

    shutdown = Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: shutdown.set())
    with server:
        urls = [f"http://{name}:{server.port}" for name in options.allow_host]
        if options.output == "json":
            print(json.dumps(_as_json(server, urls)))
        else:
            _announce(server, options, urls)
        sys.stdout.flush()
        shutdown.wait()
    return 0


def _as_json(server: EmulatorServer, urls: list[str]) -> dict[str, Any]:
    return {
        "version": 1,
        "endpoint_url": server.endpoint_url,
        "control_url": f"{server.endpoint_url}{PREFIX}/",
        "other_urls": urls,
        "pipelines": server.pipelines,
        "connection": json.loads(server.connection()),
    }


def _announce(
    server: EmulatorServer, options: argparse.Namespace, urls: list[str]
) -> None:
    print(
        f"SageMaker emulator on {server.endpoint_url} (control API:"
        f" {server.endpoint_url}{PREFIX}/)"
    )
    print(
        f"Clients of AWS use it with AWS_ENDPOINT_URL={server.endpoint_url}; speed:"
        f" {options.speed:g}"
    )
    if not server.pipelines:
        print(f"No pipelines: {options.definitions} has no *.json files.")
    for region, names in server.pipelines.items():
        print(f"Pipelines in {region}: {', '.join(names)}")
    print("Airflow uses it with the connection polysync_default:")
    print(f"export AIRFLOW_CONN_POLYSYNC_DEFAULT='{server.connection()}'")
    if urls:
        print(
            f"It listens on {options.bind}, without authentication, also as"
            f" {', '.join(urls)}"
        )


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise ValueError
    return speed


def _quota(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a whole number from 1 on")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 0 to 65535")
    return int(text)


def make_parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = Parser(prog=prog, description=__doc__)
    add = parser.add_argument
    add(
        "--port",
        type=_port,
        default=4599,
        help="port; 0 selects a free port (default: %(default)s)",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help=(
            "name by which other containers reach the emulator; repeatable (default:"
            " this machine's only)"
        ),
    )
    add(
        "--bind",
        default=LOOPBACK,
        metavar="ADDRESS",
        help=(
            "IPv4 address to listen on; others than 127.0.0.1 need --allow-host"
            " (default: %(default)s)"
        ),
    )
    _add_what_is_emulated(parser)
    _add_limits(parser)
    return parser


def _add_what_is_emulated(parser: argparse.ArgumentParser) -> None:
    """Add the options of what the clients of the emulator see."""
    add = parser.add_argument
    add(
        "--speed",
        type=_speed,
        default=1.0,
        help="emulated seconds per real second (default: 1)",
    )
    add(
        "--definitions",
        type=Path,
        default=EXAMPLE_DEFINITIONS,
        help=(
            "folder of *.json pipeline definitions; one pipeline is created from each"
            " (default: examples)"
        ),
    )
    add(
        "--region",
        default="us-east-1",
        help="region of the pipelines of --definitions (default: %(default)s)",
    )
    add(
        "--issuer-ca",
        type=Path,
        metavar="FILE",
        help=(
            "PEM file with CA certificates to trust for the issuers of web identity"
            " tokens"
        ),
    )
    add(
        "--lenient",
        action="store_true",
        help=(
            "accept definitions that AWS would refuse, with a warning, as far as they"
            " can run"
        ),
    )
    add(
        "--enforce-iam",
        action="store_true",
        help="enforce the policies in IAM on pipeline operations and on steps",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options of the quotas, and of what is kept."""
    add = parser.add_argument
    add(
        "--max-steps",
        type=_quota,
        default=50,
        metavar="N",
        help="quota of steps in a pipeline (default: %(default)s)",
    )
    add(
        "--max-executions",
        type=_quota,
        default=20,
        metavar="N",
        help="quota of executions that run at once in a region (default: %(default)s)",
    )
    add(
        "--max-pipelines",
        type=_quota,
        default=500,
        metavar="N",
        help="quota of pipelines in a region (default: %(default)s)",
    )
    add(
        "--max-ended-executions",
        type=_quota,
        default=Limits.max_ended_executions,
        metavar="N",
        help=(
            "how many executions of a region are kept after their end, in up to 5 KB"
            " each; the oldest are removed (default: %(default)s)"
        ),
    )


if __name__ == "__main__":
    sys.exit(main(prog="python -m sagemaker_emulator"))
