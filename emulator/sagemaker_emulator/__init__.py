"""
An emulator of the SageMaker API: a local HTTP endpoint whose pipeline executions
progress over time.

`server.server` starts the emulator from Python, `server.control` describes the control
API over HTTP, and ``__main__`` is the command line.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sagemaker_emulator.engine.clock import RealClock, VirtualClock
from sagemaker_emulator.limits import Limits
from sagemaker_emulator.server.client import ControlClient, ControlRefused

if TYPE_CHECKING:
    from sagemaker_emulator.server.server import EmulatorServer

__version__ = "0.1.0"

__all__ = [
    "EXAMPLE_DEFINITIONS",
    "ControlClient",
    "ControlRefused",
    "EmulatorServer",
    "Limits",
    "RealClock",
    "VirtualClock",
]

#: The folder with the definitions of the example pipelines.
EXAMPLE_DEFINITIONS: Final = Path(__file__).parent / "definitions"


def __getattr__(name: str) -> Any:
    # Only the server needs other packages. The client and the clocks can be imported
    # without them.
    if name != "EmulatorServer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sagemaker_emulator.server.server import EmulatorServer
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == __name__:
            raise
        raise ImportError(
            f"The emulator needs packages that are not installed ({missing}). Install"
            " them with: pip install sagemaker-pipelines-emulator",
            name=missing,
        ) from error
    return EmulatorServer
