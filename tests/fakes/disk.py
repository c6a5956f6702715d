# SPDX-License-Identifier: Apache-2.0
"""A disk that fails at one chosen call, before or after it takes effect, and one that remembers what was synced."""

import enum
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from iap_authz.adapters.journal.disk import Disk

T = TypeVar("T")


class When(enum.Enum):
    """A failed call may have done its work all the same, and a caller must survive both."""

    BEFORE = "before"
    AFTER = "after"
    HALFWAY = "halfway"


class FailingDisk(Disk):
    """Counts its calls; number `fail_at` (from 0) fails with `error`, once. `calls` says what they were."""

    def __init__(self, fail_at: int | None = None, *, when: When = When.BEFORE, number: int = errno.EIO) -> None:
        self.fail_at = fail_at
        self.when = when
        self.error = OSError(number, os.strerror(number))
        self.calls: list[str] = []

    def _step(self, name: str, act: Callable[[], T]) -> T:
        fails = len(self.calls) == self.fail_at
        self.calls.append(name)
        if fails and self.when is When.BEFORE:
            raise self.error
        result = act()
        if fails:
            raise self.error
        return result

    def make_directory(self, path: Path) -> None:
        self._step("make_directory", lambda: super(FailingDisk, self).make_directory(path))

    def create(self, path: Path) -> int:
        return self._step("create", lambda: super(FailingDisk, self).create(path))

    def open(self, path: Path) -> int:
        return self._step("open", lambda: super(FailingDisk, self).open(path))

    def preallocate(self, descriptor: int, size_bytes: int) -> None:
        self._step("preallocate", lambda: super(FailingDisk, self).preallocate(descriptor, size_bytes))

    def write(self, descriptor: int, data: bytes, *, offset: int) -> None:
        fails = len(self.calls) == self.fail_at and self.when is When.HALFWAY
        kept = data[: len(data) // 2] if fails else data
        self._step("write", lambda: super(FailingDisk, self).write(descriptor, kept, offset=offset))

    def sync_data(self, descriptor: int) -> None:
        self._step("sync_data", lambda: super(FailingDisk, self).sync_data(descriptor))

    def sync(self, descriptor: int) -> None:
        self._step("sync", lambda: super(FailingDisk, self).sync(descriptor))

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        self._step("truncate", lambda: super(FailingDisk, self).truncate(descriptor, size_bytes))

    def rename(self, path: Path, target: Path) -> None:
        self._step("rename", lambda: super(FailingDisk, self).rename(path, target))

    def remove(self, path: Path) -> None:
        self._step("remove", lambda: super(FailingDisk, self).remove(path))

    def remove_directory(self, path: Path) -> None:
        self._step("remove_directory", lambda: super(FailingDisk, self).remove_directory(path))

    def sync_directory(self, path: Path) -> None:
        self._step("sync_directory", lambda: super(FailingDisk, self).sync_directory(path))


class FullDisk(Disk):
    """A disk that gives `segments_left` more segments, then none until `free` is called."""

    def __init__(self, segments_left: int) -> None:
        self.segments_left = segments_left
        self.tries = 0

    def preallocate(self, descriptor: int, size_bytes: int) -> None:
        self.tries += 1
        if self.segments_left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.segments_left -= 1
        super().preallocate(descriptor, size_bytes)
