"""
The control API under ``/_emulator``, with which tests and demos control and inspect the
emulator.

Requests and responses are JSON, without credentials. POST and PUT need the header
``Content-Type: application/json``, also without content, so that no web page can send
them. The response to an invalid request has HTTP status 400 (or 404, 405) and the body
``{"error": "..."}``.

``GET /health``
    ``{"status": "ok", "pipelines": {region: [name]}, "versions": {...}}``
``GET /clock``
    ``{"now": Unix time, "iso": "...", "speed": 30 or null}``
``POST /clock/advance``
    ``{"seconds": 3600}``: advances a virtual clock; responds like ``GET /clock``
``GET /scenarios``
    ``{"default": {...} or null, "pipelines": {name: {...}}}``
``PUT, DELETE /scenarios``
    the default scenario: durations, failures with their exception types and log lines,
    outputs, the delay between steps, the final status; see `engine.scenarios` for its
    form
``PUT, DELETE /scenarios/PIPELINE``
    the scenario of one pipeline, which replaces the default scenario
``GET, PUT /sign-in``
    how strictly callers are checked, and how long credentials are valid; see
    `sign_in.settings` for the form
``GET /faults``
    ``{"faults": [...]}``, with the remaining ``skip`` and ``count``
``POST /faults``
    adds a fault for SageMaker or another service, such as ``logs``; see
    `server.faults`; responds with the fault and its id
``DELETE /faults``, ``/faults/ID``
    removes all faults or one fault
``GET /calls?operation=X&after=ID``
    ``{"calls": [...]}``; see `server.call_log` for the form of an entry
``DELETE /calls``
    removes all entries from the call log
``POST /reset``
    restores the initial state of everything except the clock (including moto's
    services), and creates the pipelines of ``--definitions`` again

``POST /moto-api/reset``, without content, does the same: tests that were written for
moto's server call it. Moto's other routes do not exist here; some of them would return
what other clients have sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from sagemaker_emulator.engine import scenarios
from sagemaker_emulator.engine.clock import VirtualClock
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sagemaker.api import SageMaker
from sagemaker_emulator.server.call_log import CallLog
from sagemaker_emulator.server.client import PREFIX
from sagemaker_emulator.server.faults import FaultError, Faults
from sagemaker_emulator.sign_in.settings import SignInError, SignInSettings

#: Where moto's server has its own routes. All but ``reset`` are refused.
MOTO_API: Final = "/moto-api"
# Later times have no text.
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
_ID_LENGTH: Final = 18


class ControlError(ValueError):
    """Raised when a request to the control API is invalid."""


class ControlApi:
    """
    Handles the requests to the control API.

    :param sagemaker: the emulated SageMaker API.
    :param faults: the active faults.
    :param calls: the call log.
    :param sign_in: the sign-in settings.
    :param reset: restores the initial state of the other parts of the emulator.
    """

    def __init__(
        self,
        sagemaker: SageMaker,
        faults: Faults,
        calls: CallLog,
        sign_in: SignInSettings,
        reset: Callable[[], None],
    ) -> None:
        self._sagemaker = sagemaker
        self._sign_in = sign_in
        self._faults = faults
        self._calls = calls
        self._reset = reset
        # GET /scenarios returns the scenarios in the JSON form in which they were set.
        self._scenarios: dict[str | None, Any] = {}
        rules = [
            Rule(f"{PREFIX}/{path}", methods=[method], endpoint=endpoint)
            for method, path, endpoint in self._endpoints()
        ]
        moto_reset = Rule(
            f"{MOTO_API}/reset", methods=["POST"], endpoint=self._reset_as_moto
        )
        self._routes = Map([*rules, moto_reset], merge_slashes=False)

    def _endpoints(self) -> list[tuple[str, str, Callable[..., Any]]]:
        return [
            ("GET", "health", self._health),
            ("GET", "clock", self._clock),
            ("POST", "clock/advance", self._advance),
            ("GET", "scenarios", self._get_scenarios),
            ("PUT", "scenarios", self._put_scenario),
            ("DELETE", "scenarios", self._delete_scenario),
            ("PUT", "scenarios/<pipeline>", self._put_scenario),
            ("DELETE", "scenarios/<pipeline>", self._delete_scenario),
            ("GET", "sign-in", lambda request: self._sign_in.as_json()),
            ("PUT", "sign-in", self._put_sign_in),
            ("GET", "faults", lambda request: {"faults": self._faults.as_json()}),
            ("POST", "faults", self._add_fault),
            ("DELETE", "faults", lambda request: {"removed": self._faults.clear()}),
            ("DELETE", "faults/<int:fault_id>", self._remove_fault),
            ("GET", "calls", self._get_calls),
            ("DELETE", "calls", lambda request: self._calls.clear()),
            ("POST", "reset", lambda request: self.reset()),
        ]

    def handle(self, request: Request, refusal: ApiError | None) -> Response:
        """
        Handle a request to the control API.

        :param request: the request.
        :param refusal: why its body is refused; None if it is not.
        """
        if refusal:
            return _response({"error": refusal.message}, refusal.status)
        try:
            endpoint, arguments = self._routes.bind_to_environ(request.environ).match()
            body = endpoint(request, **arguments)
        except HTTPException as error:
            text = f"{request.method} {request.path}: {error.name}"
            return _response({"error": text}, error.code or 500)
        except (
            ControlError,
            FaultError,
            SignInError,
            scenarios.ScenarioError,
        ) as error:
            return _response({"error": str(error)}, 400)
        except (OverflowError, RecursionError) as error:
            text = f"a value is too large or too deep: {error}"
            return _response({"error": text}, 400)
        return _response(body or {}, 200)

    def reset(self) -> None:
        """Restore the initial state of everything except the clock."""
        self._scenarios.clear()
        self._faults.clear()
        self._calls.clear()
        self._sign_in.reset()
        self._reset()

    def _reset_as_moto(self, request: Request) -> dict[str, Any]:
        self.reset()
        return {"status": "ok"}

    def _health(self, request: Request) -> dict[str, Any]:
        pipelines = self._sagemaker.pipeline_names()
        return {
            "status": "ok",
            "pipelines": pipelines,
            "versions": {name: version(name) for name in ("botocore", "moto")},
        }

    def _clock(self, request: Request) -> dict[str, Any]:
        clock = self._sagemaker.clock
        now = clock.now()
        return {
            "now": now,
            "iso": datetime.fromtimestamp(now, UTC).isoformat(),
            "speed": clock.speed,
        }

    def _advance(self, request: Request) -> dict[str, Any]:
        clock = self._sagemaker.clock
        if not isinstance(clock, VirtualClock):
            raise ControlError(
                "only a virtual clock can be advanced; this clock follows real time"
            )
        body = _body(request)
        unknown = sorted(body.keys() - {"seconds"})
        if unknown:
            raise ControlError(f"unknown members {unknown}; allowed are ['seconds']")
        seconds = body.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ControlError(f"seconds is {seconds!r}; it must be a number")
        try:
            if clock.now() + seconds > _LATEST:
                raise ControlError("the clock would be after the year 9000")
            clock.advance(seconds)
        except (ValueError, OverflowError) as error:
            raise ControlError(str(error)) from error
        return self._clock(request)

    def _get_scenarios(self, request: Request) -> dict[str, Any]:
        by_pipeline = {
            name: body for name, body in self._scenarios.items() if name is not None
        }
        return {"default": self._scenarios.get(None), "pipelines": by_pipeline}

    def _put_scenario(self, request: Request, pipeline: str | None = None) -> None:
        body = _body(request)
        self._sagemaker.set_scenario(pipeline, scenarios.parse(body))
        self._scenarios[pipeline] = body

    def _delete_scenario(self, request: Request, pipeline: str | None = None) -> None:
        self._sagemaker.set_scenario(pipeline, None)
        self._scenarios.pop(pipeline, None)

    def _put_sign_in(self, request: Request) -> dict[str, Any]:
        self._sign_in.update(_body(request))
        return self._sign_in.as_json()

    def _add_fault(self, request: Request) -> dict[str, Any]:
        fault = self._faults.add(_body(request), self._sagemaker.clock.now())
        return fault.as_json()

    def _remove_fault(self, request: Request, fault_id: int) -> dict[str, Any]:
        if not self._faults.remove(fault_id):
            raise ControlError(f"there is no fault {fault_id}")
        return {"removed": 1}

    def _get_calls(self, request: Request) -> dict[str, Any]:
        after = request.args.get("after", "0")
        if not after.isdecimal() or len(after) > _ID_LENGTH:
            raise ControlError(f"after is {after!r}; it must be the id of an entry")
        return {"calls": self._calls.entries(request.args.get("operation"), int(after))}


def _response(body: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.get_data())
    except ValueError as error:
        raise ControlError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ControlError("the body is not a JSON object")
    return body
