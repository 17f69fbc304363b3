"""A local SageMaker endpoint that behaves over time.

See `server` for its use from Python, `control` for that over HTTP and ``__main__`` for the command line.
"""

from polysync_airflow.emulator.engine.clock import RealClock, VirtualClock
from polysync_airflow.emulator.server.client import ControlClient, ControlRefused
from polysync_airflow.emulator.server.server import EmulatorServer

__all__ = ["ControlClient", "ControlRefused", "EmulatorServer", "RealClock", "VirtualClock"]
