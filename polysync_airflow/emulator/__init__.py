"""
An emulator of the SageMaker API: a local HTTP endpoint whose pipeline executions progress over time.

`server.server` starts the emulator from Python, `server.control` describes the control API over HTTP, and
``__main__`` is the command line.
"""

from polysync_airflow.emulator.engine.clock import RealClock, VirtualClock
from polysync_airflow.emulator.server.client import ControlClient, ControlRefused
from polysync_airflow.emulator.server.server import EmulatorServer

__all__ = ["ControlClient", "ControlRefused", "EmulatorServer", "RealClock", "VirtualClock"]
