# SPDX-License-Identifier: Apache-2.0
"""What every `CheckpointStore` keeps (PROTOCOL rule G2), and what the one in a file does to keep it."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.ports import CheckpointStore
from iap_authz.tlog.note import NOTE_MAX_BYTES
from tests.fakes.senders import MemoryCheckpoints

Make = Callable[[Path], CheckpointStore]

each_store = pytest.mark.parametrize("make", [CheckpointFile, lambda _: MemoryCheckpoints()], ids=["file", "memory"])


def stored(store: CheckpointStore, *notes: bytes) -> None:
    """As the contract has it: not in the loop's thread."""
    with ThreadPoolExecutor(1) as pool:
        for note in notes:
            pool.submit(store.store, note).result()


@each_store
def test_there_is_none_at_first(make: Make, tmp_path: Path) -> None:
    assert make(tmp_path / "log.checkpoint").load() is None


@each_store
def test_the_last_one_stands_byte_for_byte(make: Make, tmp_path: Path) -> None:
    store = make(tmp_path / "log.checkpoint")
    for note in (b"a much longer note\n\x00\xff" * 100, b"short", "\u2014 dash\n".encode()):
        stored(store, note)
        assert store.load() == note


@each_store
def test_it_names_itself_for_messages(make: Make, tmp_path: Path) -> None:
    assert "object at" not in str(make(tmp_path / "log.checkpoint"))


def test_a_file_outlives_the_object(tmp_path: Path) -> None:
    stored(CheckpointFile(tmp_path / "c"), b"one", b"two")
    assert CheckpointFile(tmp_path / "c").load() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        stored(CheckpointFile(tmp_path / "c"), b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600


def test_what_a_file_of_another_kind_holds_is_bounded(tmp_path: Path) -> None:
    with (tmp_path / "c").open("wb") as file:
        file.truncate(1 << 40)
    assert len(CheckpointFile(tmp_path / "c").load() or b"") == NOTE_MAX_BYTES + 1


def test_what_is_no_file_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        CheckpointFile(tmp_path).load()
    with pytest.raises(FileNotFoundError):
        CheckpointFile(tmp_path / "nowhere" / "c").store(b"one")


def test_bytes_then_name_then_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is durable before the next one: at the first fsync the old note stands, at the second the new one."""
    store = CheckpointFile(tmp_path / "c")
    store.store(b"old")
    steps: list[tuple[bool, bytes | None]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        steps.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), store.load()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.store(b"new")
    assert steps == [(False, b"old"), (True, b"new")]


def test_a_failed_write_leaves_the_old_note_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointFile(tmp_path / "c")
    store.store(b"old")

    def fsync(_: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="input/output"):
        store.store(b"new")
    assert store.load() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".c.{os.getpid()}.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        CheckpointFile(tmp_path / "c").store(b"note")
    assert victim.read_bytes() == b"precious"
