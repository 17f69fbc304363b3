"""
Builds a release of the last commit into ``dist/``, and checks it as its users would:
``make release``.

The wheels and the sdists are built twice, from two exports of the commit, under
conditions that must not matter. An sdist has what its wheel is built from, and no tests.
Each wheel alone is installed in a new environment, of which its SBOM is made. Both
together run the demo.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DIST: Final = ROOT / "dist"
SUMS: Final = "SHA256SUMS"
# Whatever is installed has one of these hashes, or that of a wheel of the release.
PINS: Final = ROOT / "constraints-hashed.txt"
# What must not change the files: where, when, in which zone and by whom they are built.
BUILDS: Final[tuple[tuple[str, int, dict[str, str]], ...]] = (
    ("one", 0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}),
    (
        "the other folder",
        0o077,
        {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "2"},
    ),
)
# Ends with an error if the imported package is not that of the new environment.
_CHECK: Final = """
import sys
if sys.prefix not in package.__file__:
    sys.exit(f"{package.__file__} is not in the new environment")
print(package.__version__)
"""


@dataclass(frozen=True)
class Distribution:
    """
    A distribution of this repository.

    :param name: its name.
    :param folder: the folder with its ``pyproject.toml``, relative to the root.
    :param package: the name of its package.
    :param texts: the files that its sdist has beside the package.
    :param imports: a program that imports all modules that users import, without any
        extra.
    """

    name: str
    folder: str
    package: str
    texts: frozenset[str]
    imports: str

    def file(self, folder: Path, pattern: str) -> Path:
        """Return the file of this distribution in a folder, such as its ``*.whl``."""
        (found,) = folder.glob(f"{self.name.replace('-', '_')}-{pattern}")
        return found


# hatchling adds all but the licence: https://hatch.pypa.io/latest/plugins/builder/sdist/
_TEXTS: Final = frozenset({"LICENSE", "PKG-INFO", "pyproject.toml", ".gitignore"})
PROVIDER: Final = Distribution(
    "polysync-airflow",
    ".",
    "polysync_airflow",
    _TEXTS | {"CHANGELOG.md"},
    "import polysync_airflow as package\n"
    "from polysync_airflow import cli, dags, events, hooks, links, notifications, operators, sensors, triggers\n"
    "from polysync_airflow.ui import plugin",
)
EMULATOR: Final = Distribution(
    "sagemaker-pipelines-emulator",
    "emulator",
    "sagemaker_emulator",
    _TEXTS,
    "import sagemaker_emulator as package\nfrom sagemaker_emulator import EmulatorServer, builders, clients",
)


class ReleaseError(RuntimeError):
    """Raised when the release cannot be built, or does not hold what it promises."""


def main() -> int:
    """Build and check a release, and return the exit status."""
    try:
        with tempfile.TemporaryDirectory(prefix="polysync-release-") as folder:
            _release(Path(folder))
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"error: {error}\n{error.stdout or ''}{error.stderr or ''}", file=sys.stderr
        )
        return 1
    return 0


def _release(folder: Path) -> None:
    epoch = _last_commit()
    with _timed("two builds, with the same hashes"):
        files = build_reproducibly(folder, epoch)
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    for file in files:
        shutil.copy2(file, DIST)
    with _timed("contents of the sdists"):
        for each in (PROVIDER, EMULATOR):
            check_sdist(each, each.file(DIST, "*.tar.gz"))
    with _timed("metadata"):
        _python("-m", "twine", "check", "--strict", *map(str, files))
    versions = {}
    for each in (PROVIDER, EMULATOR):
        environment = folder / each.name
        with _timed(f"{each.name} alone in a new environment"):
            versions[each] = _install(environment, each)
        with _timed(f"SBOM of {each.name}"):
            _make_sbom(environment, each, versions[each], epoch)
    with _timed("demo of the wheels"):
        _run_demo(folder, versions)
    released = sorted(
        path for path in DIST.iterdir() if path.suffix in {".whl", ".gz", ".json"}
    )
    lines = [f"{sha256(path)}  {path.name}\n" for path in released]
    (DIST / SUMS).write_text("".join(lines))
    names = ", ".join(f"{each.name} {version}" for each, version in versions.items())
    print(f"\n{names}, SOURCE_DATE_EPOCH={epoch}\n{''.join(lines)}", end="")


def _last_commit() -> str:
    """Return the time of the last commit, in seconds since 1970."""
    if changes := _output("git", "status", "--porcelain"):
        raise ReleaseError(
            f"These files are not committed. Commit or remove them first:\n{changes}"
        )
    return _output("git", "log", "-1", "--format=%ct")


def build_reproducibly(folder: Path, epoch: str) -> list[Path]:
    """
    Build the last commit twice, under different conditions.

    :param folder: an empty folder for the builds.
    :param epoch: the time that the files in the archives have, in seconds since 1970.
    :return: the sdists, and the wheels, which are built from them.
    :raises ReleaseError: the builds differ.
    """
    results = []
    for name, umask, environment in BUILDS:
        source, output = folder / name / "source", folder / name / "dist"
        _export(source, umask)
        options = (
            "--quiet",
            "--system-certs",
            "--require-hashes",
            "--build-constraints",
            str(PINS),
        )
        for each in (PROVIDER, EMULATOR):
            where = ("--out-dir", str(output), str(source / each.folder))
            subprocess.run(
                [sys.executable, "-m", "uv", "build", *options, *where],
                check=True,
                capture_output=True,
                text=True,
                umask=umask,
                env={**os.environ, **environment, "SOURCE_DATE_EPOCH": epoch},
            )
        results.append(
            [path for path in output.iterdir() if path.suffix in {".whl", ".gz"}]
        )
    check_same(*results)
    return results[0]


def check_same(first: Iterable[Path], second: Iterable[Path]) -> None:
    """
    Compare the files of two builds.

    :raises ReleaseError: a file is in one build only, or has other contents.
    """
    one, other = (
        {path.name: sha256(path) for path in files} for files in (first, second)
    )
    if one != other:
        raise ReleaseError(f"Two builds of one commit differ: {one} and {other}")


def check_sdist(distribution: Distribution, path: Path) -> None:
    """
    Check that an sdist has the package of a distribution, its texts, and nothing else.

    :raises ReleaseError: it has other files, or lacks some.
    """
    with tarfile.open(path) as archive:
        # Without the folder that contains them all, which has name and version.
        entries = {name.split("/")[1] for name in archive.getnames()}
    expected = distribution.texts | {distribution.package}
    if entries != expected:
        raise ReleaseError(
            f"{path.name} has {sorted(entries)}, and should have {sorted(expected)}"
        )


def _export(folder: Path, umask: int) -> None:
    folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    subprocess.run(
        ["git", "archive", "--output", str(archive), "HEAD"], cwd=ROOT, check=True
    )
    # tar applies the umask of the process to the modes.
    subprocess.run(
        ["tar", "-xmf", str(archive), "-C", str(folder)], check=True, umask=umask
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _install(environment: Path, distribution: Distribution) -> str:
    """
    Install the wheel, without extras, and return the version with which it can be
    imported.
    """
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True
    )
    # By its name: the SBOM would have the folder of a file.
    wheel = distribution.file(DIST, "*.whl")
    version = wheel.name.split("-")[1]
    _uv_install(environment, f"{distribution.name}=={version}")
    program = distribution.imports + _CHECK
    imported = _output(
        str(environment / "bin" / "python"), "-c", program, cwd=environment
    )
    if imported != version:
        raise ReleaseError(f"{wheel.name} has the version {imported}")
    return version


def _uv_install(environment: Path, *arguments: str) -> None:
    pins = environment.with_suffix(".txt")
    pins.write_text(PINS.read_text() + "".join(_pins_of_wheels()))
    options = (
        "--quiet",
        "--system-certs",
        "--require-hashes",
        "--constraint",
        str(pins),
    )
    sources = (
        "--python",
        str(environment / "bin" / "python"),
        "--find-links",
        str(DIST),
    )
    _python("-m", "uv", "pip", "install", *options, *sources, *arguments)


def _pins_of_wheels() -> Iterator[str]:
    """Yield a line with the version and the hash of each wheel."""
    for each in (PROVIDER, EMULATOR):
        wheel = each.file(DIST, "*.whl")
        version = wheel.name.split("-")[1]
        yield f"{each.name}=={version} --hash=sha256:{sha256(wheel)}\n"


def _make_sbom(
    environment: Path, distribution: Distribution, version: str, epoch: str
) -> None:
    # The tool reads the version of the subject only there, not from the environment.
    project, dynamic = environment / "pyproject.toml", 'dynamic = ["readme", "version"]'
    text = (ROOT / distribution.folder / "pyproject.toml").read_text()
    if dynamic not in text:
        raise ReleaseError(f"pyproject.toml has no line {dynamic}")
    project.write_text(text.replace(dynamic, f'version = "{version}"'))
    options = (
        "--output-reproducible",
        "--mc-type",
        "library",
        "--pyproject",
        str(project),
    )
    python = str(environment / "bin" / "python")
    file = (
        DIST / f"{distribution.file(DIST, '*.whl').name.partition('-py3')[0]}.cdx.json"
    )
    _python(
        *(
            "-m",
            "cyclonedx_py",
            "environment",
            *options,
            "--output-file",
            str(file),
            python,
        ),
        SOURCE_DATE_EPOCH=epoch,
    )


def _run_demo(folder: Path, versions: dict[Distribution, str]) -> None:
    environment = folder / PROVIDER.name
    emulator = f"{EMULATOR.name}=={versions[EMULATOR]}"
    _uv_install(
        environment, f"{PROVIDER.name}[emulator]=={versions[PROVIDER]}", emulator
    )
    source = folder / "demo"
    _export(source, 0o022)
    # Otherwise the demo would run these copies instead of the wheels.
    shutil.rmtree(source / PROVIDER.package)
    shutil.rmtree(source / EMULATOR.folder)
    command = [str(environment / "bin" / "python"), "-m", "tests.system.demo"]
    # Otherwise each process of Airflow compiles all modules again.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE"
    }
    subprocess.run(command, check=True, cwd=source, env=kept)


def _python(*arguments: str, **environment: str) -> None:
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **environment})


def _output(*command: str, cwd: Path = ROOT) -> str:
    return subprocess.run(
        command, check=True, cwd=cwd, capture_output=True, text=True
    ).stdout.strip()


@contextmanager
def _timed(step: str) -> Iterator[None]:
    print(f"\n=== {step}", flush=True)
    start = time.monotonic()
    yield
    print(f"{step}: ok, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
