"""
What the suite takes away from processes: the space of a folder, file descriptors,
memory, and the time. Nothing of the machine itself is changed. All but the descriptors
needs root.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.deployment.packages import PackageInstaller

FILLER: Final = "filler"
_FAKETIME: Final = "/usr/lib/*/faketime/libfaketimeMT.so.1"
# Of version 1. The files of version 2 have other names.
MEMORY_CGROUPS: Final = Path("/sys/fs/cgroup/memory")


class SmallFolder:
    """
    A folder with a file system of its own, until the end of the context.

    :param size: its size, as ``mount`` reads it.
    """

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        self._size = size
        self._is_covered = False

    def __enter__(self) -> SmallFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        self._mount(f"size={self._size}")
        return self

    def __exit__(self, *_: object) -> None:
        self.uncover()
        # Lazily: a process that is being ended may still write there.
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def fill(self) -> None:
        """Write until there is no space left."""
        block = bytes(64 * 1024)
        with (self.path / FILLER).open("wb", buffering=0) as file, suppress(OSError):
            while file.write(block):
                pass

    def clear(self) -> None:
        """Remove what ``fill`` has written."""
        (self.path / FILLER).unlink()

    def cover(self) -> None:
        """Let nobody create a file there. Files that are open stay writable."""
        self._mount("ro,size=4k")
        self._is_covered = True

    def uncover(self) -> None:
        """End `cover`."""
        if self._is_covered:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)
            self._is_covered = False

    def _mount(self, options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "polysync", str(self.path)],
            check=True,
        )


class Descriptors:
    """
    The file descriptors of processes.

    :param pids: the ids of the processes.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._before: dict[int, tuple[int, int]] = {}
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                self._before[pid] = process.rlimit(psutil.RLIMIT_NOFILE)
                process.rlimit(
                    psutil.RLIMIT_NOFILE, (process.num_fds(), self._before[pid][1])
                )

    def restore(self) -> None:
        """Give the processes their limits back."""
        for pid, limits in self._before.items():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE, limits)


class Clock:
    """
    The time of processes that are started with `settings`.

    :param file: where the processes look for it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    @property
    def settings(self) -> Mapping[str, str]:
        """The environment variables of a process."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            # As of a host whose clock is set: this one only goes on.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """Let the processes have a time that is not that of the machine."""
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(f"{seconds:+d}\n")
        unfinished.rename(self._file)


def _library() -> Path:
    found = next(Path("/").glob(_FAKETIME.lstrip("/")), None)
    if found is None:
        PackageInstaller("libfaketime").install("libfaketime")
        found = next(Path("/").glob(_FAKETIME.lstrip("/")))
    return found


class MemoryGroup:
    """
    A group of processes that have a limit of memory together.

    :param folder: the control group.
    :param limit: the limit in bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._before = 0

    def add(self, pids: Sequence[int]) -> None:
        """
        Move processes into the group. What they have already counts: Linux does not
        move it with them, so it is taken from the limit.
        """
        self._before = sum(psutil.Process(pid).memory_full_info().uss for pid in pids)
        limit = str(self._limit - self._before)
        (self._folder / "memory.limit_in_bytes").write_text(limit)
        for pid in pids:
            (self._folder / "cgroup.procs").write_text(str(pid))

    @property
    def peak(self) -> int:
        """The most bytes that the processes had together."""
        text = (self._folder / "memory.max_usage_in_bytes").read_text()
        return self._before + int(text)

    @property
    def kills(self) -> str:
        """What Linux says of processes that it has killed for want of memory."""
        lines = (self._folder / "memory.oom_control").read_text().splitlines()
        return next((line for line in lines if line.startswith("oom_kill ")), "")


@contextmanager
def memory_group(name: str, mebibytes: int) -> Iterator[MemoryGroup]:
    """Make a group of processes for the time of the context."""
    folder = MEMORY_CGROUPS / name
    folder.mkdir()
    try:
        yield MemoryGroup(folder, mebibytes * 1024 * 1024)
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (MEMORY_CGROUPS / "cgroup.procs").write_text(pid)
        folder.rmdir()
