"""The run of a plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from tests.simulation import installed, oracle, reached
from tests.simulation import kernel as kernels
from tests.simulation.actions import COPIES, KINDS
from tests.simulation.airflow.database import ENDED, Database
from tests.simulation.airflow.deployment import Deployment, Settings
from tests.simulation.aws import Aws
from tests.simulation.dags import definition_of, parse, scenario_of
from tests.simulation.journal import Act, Entry, Journal, Owner
from tests.simulation.kernel import Process
from tests.simulation.plans import RUN, Action, Plan, Request

MAX_SECONDS: Final = 7000.0
_SLICE_SECONDS: Final = 200.0
# How many slices pass after the last end.
_QUIET_SLICES: Final = 4


@dataclass
class Result:
    """
    What a history has shown.

    :param judgement: what the oracle says.
    :param errors: what has ended a thread that no error may end.
    """

    plan: Plan
    journal: Journal
    judgement: oracle.Judgement = field(default_factory=oracle.Judgement)
    errors: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """What was violated."""
        kinds = {each.rule for each in self.judgement.violations}
        if self.errors:
            kinds.add("CRASH")
        return sorted(kinds)


class History:
    """
    A history that is run once.

    :param plan: what happens in it.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.journal = Journal()
        self._kernel = installed.begin(plan.seed)
        account = plan.account
        self.aws = Aws(
            self.journal, definition_of(account), scenario_of(account), plan.seed
        )
        self._kernel.aws = self.aws
        self.deployments: dict[str, Deployment] = {}
        # The process that an action finds in the middle of a request.
        self.interrupted: Process | None = None
        self._people = Process("people", "people")
        self._at_requests: dict[Request, list[Action]] = {}
        self._processes: Counter[Request] = Counter()
        self._changes: Counter[tuple[Owner, str]] = Counter()
        self.add_deployment("a", Database())
        self.deployments["a"].people.start_run(RUN)

    def add_deployment(self, name: str, database: Database) -> None:
        """Begin to run a deployment."""
        airflow = self.plan.airflow
        settings = Settings(
            **airflow.model_dump(),
            options={("api", "base_url"): f"https://{name}.example.com"},
            starting_ids=tuple(self.plan.starting_ids),
        )
        self.deployments[name] = Deployment(
            name, database, settings, partial(parse, self.plan), self.journal
        )

    def run(self) -> Result:
        """Run it to its end, and judge."""
        kernel = self._kernel
        for action in self.plan.actions:
            if action.request:
                self._at_requests.setdefault(action.request, []).append(action)
        if self._at_requests:
            kernel.on_request = self._on_request
        self.journal.follow = self._on_entry
        people = kernel.spawn(self._people, self._act_at_times, "people")
        quiet = 0
        end = kernel.now + MAX_SECONDS
        while kernel.now < end and not kernel.errors and quiet < _QUIET_SLICES:
            kernel.run(kernel.now + _SLICE_SECONDS)
            is_idle = self.aws.is_idle and people.is_done and self._all_ended
            quiet = quiet + 1 if is_idle else 0
        result = Result(self.plan, self.journal)
        result.judgement = oracle.judge(
            self.plan, self.aws, self.journal, kernel.now, self._xcoms()
        )
        result.errors = kernel.errors
        kernel.close()
        return result

    def _xcoms(self) -> dict[Owner, dict[str, Any]]:
        """Return what each task has stored for others."""
        xcoms: dict[Owner, dict[str, Any]] = {}
        for deployment in self.deployments.values():
            for (key, name), value in deployment.db.xcoms.items():
                xcoms.setdefault(deployment.owner(key), {})[name] = value
        return xcoms

    @property
    def _all_ended(self) -> bool:
        return all(
            ti.state in ENDED
            for deployment in self.deployments.values()
            for ti in deployment.db.tis.values()
        )

    # ---- actions

    def _act_at_times(self) -> None:
        for action in self.plan.actions:
            if not action.request and not action.change:
                self._kernel.sleep(kernels.START + action.at - self._kernel.now)
                self._act(action)

    def _on_entry(self, entry: Entry) -> None:
        """Act after a change of a task, as the plan says."""
        owner = entry.owner
        if entry.kind != "state" or owner is None:
            return
        self._changes[owner, entry.text] += 1
        key = (owner.deployment, owner.run_id, owner.task_id)
        for action in self.plan.actions:
            change = action.change
            if key != (action.deployment, action.run, action.task) or not change:
                continue
            number = self._changes[owner, entry.text]
            if (change.state, change.number) == (entry.text, number):
                self._kernel.spawn(self._people, partial(self._act_later, action))

    def _act_later(self, action: Action) -> None:
        if action.at:
            self._kernel.sleep(action.at)
        self._act(action)

    def _act(self, action: Action) -> None:
        deployment = self.deployments.get(action.deployment)
        if action.name in COPIES:
            deployment = self.deployments["a"]
        kind = KINDS.get(action.name)
        if deployment is None or kind is None:
            return
        self._people.deployment = deployment
        places = reached.places(deployment)
        if kind.act(self, deployment, action) is not False:
            reached.happened(action.name, places)
            process = str(self.interrupted or "")
            done = Act(deployment.name, action.run, action.task, action.value, process)
            self.journal.note("action", action.name, None, done)

    def _on_request(
        self, process: Process, moment: str, request: str, number: int
    ) -> None:
        """Act in the middle of a request, as the plan says."""
        for wanted in list(self._at_requests):
            if (wanted.role, wanted.name) != (process.role, request):
                continue
            if (wanted.moment, wanted.number) != (moment, number):
                continue
            self._processes[wanted] += 1
            if self._processes[wanted] == wanted.process:
                self._interrupt(process, self._at_requests.pop(wanted))

    def _interrupt(self, process: Process, actions: list[Action]) -> None:
        kernel = self._kernel
        fiber = kernel.current

        def act() -> None:
            for action in actions:
                self.interrupted = process
                self._act(action)
                self.interrupted = None
            assert fiber
            kernel.wake(fiber)

        kernel.spawn(self._people, act, "interrupt")
        kernel.park()
