"""The table of the cases: what is used up or fails, and the expected outcome."""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import LONG, ONLY_LOCAL, STOPPED, Case, Expected
from tests.chaos.deployment.airflow_deployment import FIRST
from tests.chaos.scenarios.shared import Scenario
from tests.exhaustion import scenarios
from tests.exhaustion.deployment import ALL_TABLES, STORES, ExhaustedDeployment

# In one try or by a retry: what matters is the execution.
SUCCESS: Final = Expected(tries=None)
ENDED_BY_USER: Final = Expected(STOPPED, None, tries=None, stops=True)


def _case(
    number: str,
    title: str,
    scenario: Scenario,
    expected: Expected = SUCCESS,
    *,
    outage: str = "",
) -> Case:
    return Case(
        number,
        title,
        scenario,
        expected,
        seconds=LONG if expected.stops else 1,
        exclusive=True,
        outage=outage or number,
        short=(),
        executors=ONLY_LOCAL,
    )


def _in_both_modes(
    deferred: str,
    synchronous: str,
    title: str,
    scenario: Scenario,
    expected: Expected = SUCCESS,
) -> tuple[Case, Case]:
    """Return the two cases of one outage, which the number of the first one names."""
    return (
        _case(deferred, f"{title}, deferred mode", scenario, expected),
        _case(
            synchronous,
            f"{title}, synchronous mode",
            scenario,
            expected,
            outage=deferred,
        ),
    )


def _set_dns(deployment: ExhaustedDeployment, *, fails: bool) -> None:
    deployment.front.closes = fails
    if fails:
        deployment.dns_fails.touch()
    else:
        deployment.dns_fails.unlink(missing_ok=True)


def _set_proxy(deployment: ExhaustedDeployment, *, drops: bool) -> None:
    deployment.front.drops = drops


def _set_sts(deployment: ExhaustedDeployment, *, seconds: float) -> None:
    deployment.front.sts_seconds = seconds


_FULL = (lambda each: each.log_folder.fill(), lambda each: each.log_folder.clear())
_READ_ONLY = (
    lambda each: each.log_folder.cover(),
    lambda each: each.log_folder.uncover(),
)
_STORES_LOCKED = (lambda each: each.lock(STORES), lambda each: each.unlock())
_ALL_LOCKED = (lambda each: each.lock(ALL_TABLES), lambda each: each.unlock())
_NO_DNS = (
    lambda each: _set_dns(each, fails=True),
    lambda each: _set_dns(each, fails=False),
)
_DROPS = (
    lambda each: _set_proxy(each, drops=True),
    lambda each: _set_proxy(each, drops=False),
)
_SLOW_STS = (
    lambda each: _set_sts(each, seconds=scenarios.STS_SECONDS),
    lambda each: _set_sts(each, seconds=0),
)

CASES: Final = (
    *_in_both_modes(
        "1a",
        "1b",
        "disk of the logs full",
        scenarios.ends_in_outage(*_FULL),
    ),
    *_in_both_modes(
        "1c",
        "1d",
        "disk of the logs full for good, retries=0",
        scenarios.full_for_good,
        ENDED_BY_USER,
    ),
    *_in_both_modes(
        "1e",
        "1f",
        "folder of the logs read-only",
        scenarios.ends_in_outage(*_READ_ONLY),
    ),
    *_in_both_modes(
        "2a",
        "2b",
        "database locked at the start",
        scenarios.outage(*_STORES_LOCKED, before_start=True),
    ),
    *_in_both_modes(
        "2c",
        "2d",
        "database locked in the wait",
        scenarios.outage(*_ALL_LOCKED, before_start=False),
    ),
    *_in_both_modes(
        "2e",
        "2f",
        "database restarts three times at the start",
        scenarios.database_restarts,
    ),
    _case(
        "3a",
        "no file descriptor left in the triggerers, deferred before",
        scenarios.descriptors_used_up_in_wait,
    ),
    _case(
        "3b",
        "no file descriptor left in the triggerers, deferred meanwhile",
        scenarios.descriptors_used_up_at_deferral,
    ),
    _case("4", "256 MiB for a task and its supervisor", scenarios.little_memory),
    _case(
        "5a",
        "clock of the triggerer an hour ahead for a minute",
        scenarios.clock_jumps(FIRST, scenarios.HOUR),
    ),
    _case(
        "5b",
        "clock of the triggerer set an hour back for a minute",
        scenarios.clock_jumps(FIRST, -scenarios.HOUR),
    ),
    _case(
        "5c",
        "clock of scheduler and workers an hour ahead for a minute",
        scenarios.clock_jumps("scheduler", scenarios.HOUR, ends=True),
        # All tasks seem to have died an hour ago, and no new try can sign in.
        Expected(STOPPED, "failed", tries=None, stops=True),
    ),
    _case(
        "5d",
        "clock of scheduler and workers set an hour back for a minute",
        scenarios.clock_jumps("scheduler", -scenarios.HOUR),
    ),
    *_in_both_modes(
        "6a",
        "6b",
        "the name of the endpoint does not resolve in the wait",
        scenarios.outage(*_NO_DNS, before_start=False),
    ),
    _case(
        "6c",
        "the name of the endpoint does not resolve at the start",
        scenarios.outage(*_NO_DNS, before_start=True),
    ),
    *_in_both_modes(
        "7a",
        "7b",
        "a proxy drops connections in the wait",
        scenarios.outage(*_DROPS, before_start=False),
    ),
    _case(
        "7c",
        "a proxy drops connections at the start, before requests and after",
        scenarios.outage(*_DROPS, before_start=True),
    ),
    _case(
        "8",
        "TLS with an unknown certificate authority",
        scenarios.untrusted,
        Expected((), "failed", tries=2),
    ),
    *_in_both_modes(
        "9a",
        "9b",
        "STS takes 30 s for each request",
        scenarios.outage(*_SLOW_STS, before_start=True),
    ),
)
