"""
Puts the simulation in place of threads, clock, supervisor and AWS.

Of the provider, the following is replaced and nothing else: what its modules have
imported of ``threading`` and ``concurrent.futures``, its clock (by the function that is
there for tests), the client of its hooks, and the rows of its listeners, which are the
other side of Airflow's database.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import logging
import os
import pkgutil
import random
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from copy import copy
from datetime import UTC, datetime
from inspect import getsource
from types import ModuleType, SimpleNamespace
from typing import Any, Final
from unittest.mock import patch
from weakref import WeakKeyDictionary, WeakValueDictionary

from tests.simulation import kernel as kernels
from tests.simulation.kernel import Kernel
from tests.simulation.threads import REPLACED, Local, Lock

_PACKAGE: Final = "polysync_airflow"
# They are no part of a deployment's workers, triggerers and servers.
_LEFT_OUT: Final = tuple(
    f"{_PACKAGE}.{name}"
    for name in ("ui", "testing", "cli", "airflow_compat.endpoints")
)
_PRICES: Final = (
    '{"currency": "USD", "date": "2026-01-01",'
    ' "prices": {"us-east-1": {"ml.m5.large": 3600}}}'
)
_CONNECTION: Final = (
    '{"conn_type": "polysync_sagemaker", "login": "AKIAIOSFODNN7EXAMPLE",'
    ' "password": "x",'
    ' "extra": {"auth_method": "access_key", "region_name": "us-east-1"}}'
)
_ENVIRONMENT: Final = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
    "AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES": _PRICES,
}
_KEPT: Final = ExitStack()
_EMPTY_CONTAINERS: Final = (dict, list, set, WeakKeyDictionary, WeakValueDictionary)


def install() -> None:
    """Make this process one for histories. It is good for nothing else afterwards."""
    os.environ |= _ENVIRONMENT
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="simulation-")
    logging.disable(logging.CRITICAL)
    # What these import has real locks. Then the provider's modules have simulated ones,
    # also in fields of dataclasses.
    for name in ("airflow.sdk", "airflow.providers.amazon.aws.hooks.base_aws"):
        importlib.import_module(name)
    with patch("threading.Lock", Lock), patch("threading.local", Local):
        modules = _import_package()
    _replace_in(modules)
    _replace_in_airflow()
    _find_globals(modules)
    # Finalizers would else run when the memory of the process says so.
    gc.disable()
    gc.freeze()


def begin(seed: str) -> Kernel:
    """Begin a history: forget the one before."""
    gc.collect()
    random.seed(seed)
    return Kernel(seed)


def _import_package() -> list[ModuleType]:
    package = importlib.import_module(_PACKAGE)
    names = pkgutil.walk_packages(package.__path__, f"{_PACKAGE}.", lambda _: None)
    return [
        importlib.import_module(each.name)
        for each in names
        if not each.name.startswith(_LEFT_OUT)
    ]


def _replace_in(modules: list[ModuleType]) -> None:
    from polysync_airflow.auth.base_hook import PolysyncBaseHook
    from polysync_airflow.execution import clock
    from tests.simulation import aws, reached

    reached.observe(modules)
    replaced = {id(real): simulated for real, simulated in REPLACED}
    for module in modules:
        for name, value in list(vars(module).items()):
            if id(value) in replaced:
                setattr(module, name, replaced[id(value)])

    # Never left: this process ends.
    _KEPT.enter_context(clock.replaced_by(_clock()))
    hook: Any = PolysyncBaseHook
    hook._signed_in_client = aws.Client()
    hook._client_of = lambda *_: aws.OtherService()
    aws.observe_engine()


def _clock() -> Any:
    from polysync_airflow.execution import clock

    class SimulatedClock(clock.Clock):
        def time(self) -> float:
            return kernels.KERNEL.now

        monotonic = time

        def sleep(self, seconds: float) -> None:
            kernels.KERNEL.sleep(seconds)

    return SimulatedClock()


def _replace_in_airflow() -> None:
    import structlog
    from airflow.providers.common.compat.sdk import conf
    from airflow.sdk import Connection, log, timezone
    from airflow.sdk.bases import sensor
    from airflow.sdk.bases.operator import ExecutorSafeguard
    from airflow.sdk.execution_time import context, task_runner

    from tests.simulation.airflow import doors

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    ExecutorSafeguard.test_mode = True
    configuration: Any = conf
    get = functools.cache(configuration.get)
    connection = Connection.from_json(_CONNECTION, "polysync_default")

    def get_option(section: str, key: str, **kwargs: Any) -> Any:
        process = kernels.running_process()
        if process and (section, key) in process.deployment.options:
            return process.deployment.options[section, key]
        return get(section, key, **kwargs)

    def new_uuid() -> uuid.UUID:
        process = kernels.running_process()
        assert process
        return uuid.UUID(int=process.random.getrandbits(128))

    configuration.get = get_option
    log.mask_secret = lambda *_: None
    uuid.uuid4 = new_uuid
    # Airflow reads an environment variable anew for each hook, which takes a seventh of
    # the time of a history.
    context._get_connection = lambda conn_id: copy(connection)
    timezone.utcnow = lambda: datetime.fromtimestamp(kernels.KERNEL.now, UTC)
    sensors: Any = sensor
    sensors.time = _clock()
    supervisor: Any = task_runner
    supervisor.SUPERVISOR_COMMS = SimpleNamespace(send=_send)
    doors.install()


def _send(msg: Any) -> Any:
    """Let each process reach the API server of its deployment."""
    return kernels.KERNEL.process.deployment.api.send(msg)


def _find_globals(modules: list[ModuleType]) -> None:
    """Find the variables of which each process has its own."""
    known = set()
    for module in modules:
        for name in sorted(_changing_names(module)):
            value = vars(module)[name]
            places = [module]
            if value is not None:
                # Others may have imported it.
                places = [each for each in modules if vars(each).get(name) is value]
            if (name, id(value)) not in known or value is None:
                Kernel.globals.add(places, name)
            known.add((name, id(value)))


def _changing_names(module: ModuleType) -> Iterator[str]:
    declared = {
        name
        for node in ast.walk(ast.parse(getsource(module)))
        if isinstance(node, ast.Global)
        for name in node.names
    }
    for name, value in vars(module).items():
        is_empty = type(value) in _EMPTY_CONTAINERS and not value
        is_unset = value is None and name in declared
        if is_unset or (is_empty and not name.startswith("__")):
            yield name
