"""
The virtual environment of one version of Airflow: with the pins of a managed service, or
a newer patch release or pre-release.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from packaging.version import Version

ROOT: Final = Path(__file__).parents[2]
_PINS: Final = Path(__file__).parent
# The versions that have pins, the oldest first.
VERSIONS: Final = tuple(
    sorted(
        (file.stem.removeprefix("airflow-") for file in _PINS.glob("airflow-*.txt")),
        key=Version,
    )
)
# Amazon MWAA's Python for all of these versions.
PYTHON: Final = "python3.12"
# What the tests need besides the provider. Its versions are pinned by the same file.
TEST_PACKAGES: Final = (
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "hatchling",
    "cryptography",
    "psycopg2-binary",
    "asyncpg",
    "psutil",
    "redis",
    # Without it, Airflow 3.4 does not start if its metrics are turned on.
    "statsd",
    "playwright",
    # Of the chaos suite, which Airflow 2 does not install.
    "starlette",
    "uvicorn",
)
# For tests that run on Airflow 3 only: of the chaos suite with KubernetesExecutor, and of
# the tab with the auth manager of FAB.
PROVIDERS: Final = (
    "apache-airflow-providers-cncf-kubernetes",
    "apache-airflow-providers-fab",
)


class Environment:
    """
    The environment of a version, in a folder of the repository.

    :param version: the version of Airflow; ``airflow-<version>.txt`` has its pins.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.constraints = _PINS / f"airflow-{version}.txt"
        self.folder = ROOT / f".venv-airflow-{version}"
        self.python = self.folder / "bin" / "python"
        self._ready = self.folder / ".ready"

    def install(self) -> None:
        """
        Create the environment, and install the wheel of the provider under the pins,
        with the emulator.
        """
        wheel = self._build_wheel()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._call(find_python(), "-m", "venv", str(self.folder))
        install = f"{sys.executable} -m uv pip install --quiet --system-certs --python {self.python}".split()
        packages: tuple[str, ...] = (
            f"apache-airflow=={self.version}",
            f"{wheel}[emulator,entra,openlineage]",
            "--editable",
            str(ROOT / "emulator"),
        )
        # In one command: the pins and what the provider requires must agree.
        packages += (
            TEST_PACKAGES
            if self.version.startswith("2.")
            else (*TEST_PACKAGES, *PROVIDERS)
        )
        self._call(*install, "--constraint", str(self.constraints), *packages)
        self._ready.touch()

    def install_if_needed(self) -> None:
        """
        Create the environment, unless it exists and is newer than the pins and the
        requirements.
        """
        projects = (ROOT / "pyproject.toml", ROOT / "emulator" / "pyproject.toml")
        sources = (self.constraints, *projects, Path(__file__))
        newest = max(source.stat().st_mtime for source in sources)
        if not self._ready.exists() or self._ready.stat().st_mtime < newest:
            self.install()

    def run(self, *arguments: str) -> None:
        """
        Run Python in the environment.

        :param arguments: Python's arguments.
        :raises subprocess.CalledProcessError: it fails.
        """
        self._call(str(self.python), *arguments)

    def provider_version(self) -> str:
        """
        Return the version with which ``airflow providers list`` shows the provider.

        :raises LookupError: it does not.
        """
        command = [
            str(self.folder / "bin" / "airflow"),
            "providers",
            "list",
            "--output",
            "plain",
        ]
        home = self.folder / "airflow"
        output = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "AIRFLOW_HOME": str(home)},
        ).stdout
        for line in output.splitlines():
            if line.startswith("polysync-airflow"):
                return line.split()[-1]
        raise LookupError(
            f"airflow providers list does not show polysync-airflow:\n{output}"
        )

    def _build_wheel(self) -> Path:
        folder = ROOT / "dist"
        shutil.rmtree(folder, ignore_errors=True)
        self._call(sys.executable, "-m", "hatchling", "build", "--target", "wheel")
        (wheel,) = folder.glob("*.whl")
        return wheel

    @staticmethod
    def _call(*command: str) -> None:
        subprocess.run(command, check=True, cwd=ROOT)


def find_python() -> str:
    """
    Return the interpreter that the environments use; that of this process if ``PYTHON``
    is not installed.

    pyenv's command for a version that is not selected only prints an error, so pyenv's
    own folders come first.
    """
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*sorted(versions.glob(f"*/bin/{PYTHON}")), shutil.which(PYTHON)]
    for candidate in candidates:
        if (
            candidate
            and subprocess.run(
                [str(candidate), "--version"], capture_output=True, check=False
            ).returncode
            == 0
        ):
            return str(candidate)
    return sys.executable
