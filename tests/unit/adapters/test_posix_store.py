# SPDX-License-Identifier: Apache-2.0
"""`PosixTileStore` beyond the port's contract: its files, what a crash leaves, where it refuses to be."""

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from iap_authz.adapters.stores.files import NETWORK_FILE_SYSTEMS, Files, file_system_of
from iap_authz.adapters.stores.posix import OPEN_MAX_FILES, PosixTileStore
from iap_authz.errors import ConfigInvalid, Corrupt, HeadMoved
from iap_authz.tlog.batch import Write
from iap_authz.tlog.tiles import Bundle, Tile, render_bundle_path, render_tile_path
from tests.fakes.stores import Flavour, Plan, failing

STAGE = f"stage/{300:020d}-{'a' * 64}"
ROUND = [
    Write(path=STAGE, content=b"stage" * 1000),
    Write(path=render_bundle_path(Bundle(1_000)), content=b"bundle" * 1000),
    Write(path=render_tile_path(Tile(0, 1_000)), content=b"tile"),
    Write(path=render_tile_path(Tile(1, 3, 200)), content=b"partial"),
]


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# ---- files


def test_resources_lie_at_their_paths(tmp_path: Path) -> None:
    store = PosixTileStore(tmp_path / "a" / "log")
    store.create(ROUND)
    store.publish(b"note", expected=None)
    assert files_below(tmp_path) == {
        f"a/log/{path}": content
        for path, content in [("checkpoint", b"note"), *((write.path, write.content) for write in ROUND)]
    }


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_are_for_their_owner_only(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        store = PosixTileStore(tmp_path / "log")
        store.create(ROUND)
        store.publish(b"note", expected=None)
    finally:
        os.umask(before)
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "log", *tmp_path.rglob("*"))}
    assert modes == {(True, 0o700), (False, 0o600)}


def test_reading_changes_nothing(tmp_path: Path) -> None:
    store = PosixTileStore(tmp_path / "log")
    assert (store.read("checkpoint"), store.read(STAGE), store.stages()) == (None, None, [])
    store.discard(STAGE)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_no_stages(tmp_path: Path) -> None:
    store = PosixTileStore(tmp_path)
    store.create(ROUND)
    (tmp_path / "stage" / "lost+found").mkdir()
    (tmp_path / "stage" / f"{1:020d}-short").write_bytes(b"")
    assert store.stages() == [STAGE]


def test_a_damaged_file_is_never_written_over(tmp_path: Path) -> None:
    PosixTileStore(tmp_path).create(ROUND)
    damaged = tmp_path / ROUND[2].path
    damaged.write_bytes(b"tilE")
    with pytest.raises(Corrupt, match="iap-authz fsck") as caught:
        PosixTileStore(tmp_path).create(ROUND)
    assert caught.value.where == str(damaged)
    assert damaged.read_bytes() == b"tilE"


def test_what_a_crash_left_is_removed_by_the_first_write_only(tmp_path: Path) -> None:
    PosixTileStore(tmp_path).create(ROUND[:1])
    (tmp_path / "unnamed" / "left").write_bytes(b"half")
    store = PosixTileStore(tmp_path)
    store.read(STAGE)
    assert (tmp_path / "unnamed" / "left").exists(), "a tool that reads must not disturb a log that is served"
    store.create(ROUND)
    assert list((tmp_path / "unnamed").iterdir()) == []


class Counting(Files):
    """Counts what was called, and how many files were open at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.open: set[int] = set()
        self.most_open = 0

    def create(self, path: Path) -> int:
        self.open.add(descriptor := super().create(path))
        self.most_open = max(self.most_open, len(self.open))
        return descriptor

    def close(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        super().close(descriptor)

    def sync(self, descriptor: int) -> None:
        self.calls.append("sync")
        super().sync(descriptor)

    def link(self, path: Path, target: Path) -> None:
        self.calls.append("link")
        super().link(path, target)

    def sync_directory(self, path: Path) -> None:
        self.calls.append("sync_directory")
        super().sync_directory(path)


def test_a_round_syncs_bytes_then_names_then_directories(tmp_path: Path) -> None:
    files = Counting()
    store = PosixTileStore(tmp_path, files=files)
    store.create([Write(path=render_tile_path(Tile(0, 1_001)), content=b"x")])
    store.create([Write(path=render_bundle_path(Bundle(1_001)), content=b"x")])
    files.calls.clear()
    kinds = [render_bundle_path(Bundle(1_002)), render_tile_path(Tile(0, 1_002)), render_tile_path(Tile(0, 1_003))]
    store.create([Write(path=path, content=b"x") for path in kinds])
    assert files.calls == ["sync"] * 3 + ["link"] * 3 + ["sync_directory"] * 2


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    files = Counting()
    writes = [Write(path=render_tile_path(Tile(0, index)), content=b"x") for index in range(2 * OPEN_MAX_FILES + 1)]
    PosixTileStore(tmp_path, files=files).create(writes)
    assert (files.most_open, files.open) == (OPEN_MAX_FILES, set())
    assert len(files_below(tmp_path)) == len(writes)


# ---- publishing


def test_c4_nobody_comes_between_compare_and_rename(tmp_path: Path) -> None:
    """A sequencer that is paused at its rename holds the directory, so that none can publish meanwhile."""
    seen: list[str] = []

    class Paused(Files):
        def rename(self, path: Path, target: Path) -> None:
            other = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                seen.append("held")
            finally:
                os.close(other)
            super().rename(path, target)

    store = PosixTileStore(tmp_path, files=Paused())
    store.publish(b"one", expected=None)
    assert seen == ["held"]
    with Files().locked(tmp_path):
        assert store.read("checkpoint") == b"one"


def test_c4_one_paused_before_the_compare_cannot_roll_back(tmp_path: Path) -> None:
    other = PosixTileStore(tmp_path)
    other.publish(b"one", expected=None)

    class Late(Files):
        def sync(self, descriptor: int) -> None:
            super().sync(descriptor)
            other.publish(b"three", expected=b"one")

    with pytest.raises(HeadMoved):
        PosixTileStore(tmp_path, files=Late()).publish(b"two", expected=b"one")
    assert files_below(tmp_path) == {"checkpoint": b"three"}


# ---- crashes


class Crashing(Files):
    """Knows what a power loss would leave at worst: synced bytes under synced names. Looks after every call."""

    def __init__(self, root: Path, look: Callable[[dict[str, bytes]], None]) -> None:
        self.root = root
        self.look = look
        self.bytes: dict[int, bytes] = {}
        self.names: dict[Path, dict[str, int]] = {}

    def survivors(self) -> dict[str, bytes]:
        """What is left, by path: names from the root down, each with its bytes as last synced."""
        found: dict[str, bytes] = {}
        waiting = [self.root]
        while waiting:
            directory = waiting.pop()
            for name, inode in self.names.get(directory, {}).items():
                path = directory / name
                if path.is_dir():
                    waiting.append(path)
                else:
                    found[str(path.relative_to(self.root))] = self.bytes.get(inode, b"lost")
        return found

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.bytes[os.fstat(descriptor).st_ino] = os.pread(descriptor, 1 << 20, 0)
        self.look(self.survivors())

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        self.look(self.survivors())


def test_a_power_loss_leaves_whole_resources_and_all_of_a_call_that_returned(tmp_path: Path) -> None:
    want = {f"log/{write.path}": write.content for write in ROUND}
    looks: list[dict[str, bytes]] = []
    files = Crashing(tmp_path, looks.append)
    store = PosixTileStore(tmp_path / "log", files=files)
    store.create(ROUND[:2])
    assert {path: content for path, content in want.items() if path in files.survivors()} == {
        f"log/{write.path}": write.content for write in ROUND[:2]
    }
    store.create(ROUND)
    store.publish(b"note", expected=None)
    left = {path: content for path, content in files.survivors().items() if "unnamed" not in path}
    assert left == {**want, "log/checkpoint": b"note"}
    assert len(looks) > len(ROUND)
    for look in looks:
        assert all(content == want.get(path, b"note") for path, content in look.items() if "unnamed" not in path)


def test_names_that_a_crashed_store_made_become_durable(tmp_path: Path) -> None:
    """Directories and links were made, and nothing but the bytes was synced: a retry syncs what it finds."""
    PosixTileStore(tmp_path / "log").create(ROUND)
    files = Crashing(tmp_path, lambda _: None)
    files.bytes = {path.stat().st_ino: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    PosixTileStore(tmp_path / "log", files=files).create(ROUND)
    assert files.survivors() == {f"log/{write.path}": write.content for write in ROUND}


def count_calls(tmp_path: Path, work: Callable[[PosixTileStore], None]) -> int:
    plan = Plan()
    work(PosixTileStore(tmp_path / "counted" / "log", files=failing(Files(), plan)))
    return len(plan.calls)


def create_round(store: PosixTileStore) -> None:
    store.create(ROUND)


def publish_twice(store: PosixTileStore) -> None:
    if store.read("checkpoint") is None:
        store.publish(b"one", expected=None)
    if store.read("checkpoint") == b"one":
        store.publish(b"two", expected=b"one")


def stage_and_discard(store: PosixTileStore) -> None:
    store.create(ROUND[:1])
    store.discard(STAGE)


WORKS = {"create": create_round, "publish": publish_twice, "discard": stage_and_discard}
ENDS = {
    "create": {write.path: write.content for write in ROUND},
    "publish": {"checkpoint": b"two"},
    "discard": {},
}
WHOLE = {"create": ENDS["create"], "publish": {"checkpoint": b"two"}, "discard": {STAGE: ROUND[0].content}}


@pytest.mark.parametrize("flavour", get_args(Flavour))
@pytest.mark.parametrize("work", WORKS)
def test_each_call_to_the_disk_fails_once(tmp_path: Path, work: str, flavour: Flavour) -> None:
    calls = count_calls(tmp_path, WORKS[work])
    assert calls > 5
    for fail_at in range(calls):
        directory = tmp_path / str(fail_at) / "log"
        plan = Plan(fail_at=fail_at, flavour=flavour)
        store = PosixTileStore(directory, files=failing(Files(), plan))
        with pytest.raises(OSError, match="Input/output error"):
            WORKS[work](store)
        found = {path: content for path, content in files_below(directory).items() if not path.startswith("unnamed/")}
        for path, content in found.items():
            assert content in {WHOLE[work][path], b"one"}, f"call {fail_at}, {plan.calls[-1]}"
        names = [write.path for write in ROUND if write.path in found]
        assert names == [write.path for write in ROUND][: len(names)], "names are made in order"
        WORKS[work](PosixTileStore(directory))
        assert files_below(directory) == ENDS[work]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for fail_at in range(count_calls(tmp_path, create_round)):
        files = failing(Files(), Plan(fail_at=fail_at))
        with pytest.raises(OSError, match="Input/output error"):
            PosixTileStore(tmp_path / str(fail_at) / "log", files=files).create(ROUND)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# ---- where it refuses to be

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:40 / /srv rw shared:7 master:1 - xfs /dev/vdb rw
31 30 0:41 / /srv/nfs rw - nfs4 host:/x rw
32 31 0:42 / /srv/nfs/local rw - btrfs /dev/vdc rw
33 27 0:43 /sub /with\040space rw shared:1 - fuse.sshfs host: rw
34 27 0:44 / /twice rw - cifs //host/x rw
35 27 0:45 / /twice rw - ext4 /dev/vdd rw
36 27 0:46 / /other rw - ext4 /dev/vde rw
37 27 0:47 / /other rw - 9p tag rw
a line that is no mount
"""

PLACES = {
    "/var/lib/log": "ext4",
    "/srv/log": "xfs",
    "/srv": "xfs",
    "/srvx/log": "ext4",
    "/srv/nfs": "nfs4",
    "/srv/nfs/a/b": "nfs4",
    "/srv/nfs/local/log": "btrfs",
    "/srv/local/../nfs/log": "nfs4",
    "/with space/log": "fuse.sshfs",
    "/twice/log": "ext4",
    "/other/log": "9p",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_nearest_and_last_mount_counts(place: str) -> None:
    assert file_system_of(Path(place), MOUNTS) == PLACES[place]


class Mounted(Files):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def mounts(self) -> str:
        return f"27 1 254:0 / / rw - {self.kind} /dev/x rw\n"


@pytest.mark.parametrize("kind", sorted(NETWORK_FILE_SYSTEMS | {"fuse.sshfs", "fuse.glusterfs"}))
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigInvalid, match=rf"got a directory on {kind}, want one on a local disk .*object store"):
        PosixTileStore(tmp_path / "log", files=Mounted(kind))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs", "fusexfs"])
def test_local_ones_are_not(tmp_path: Path, kind: str) -> None:
    PosixTileStore(tmp_path / "log", files=Mounted(kind)).create(ROUND)
    assert (tmp_path / "log" / STAGE).exists()


def test_without_mounts_it_refuses(tmp_path: Path) -> None:
    class Unknown(Files):
        def mounts(self) -> str:
            raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ConfigInvalid, match="mount /proc"):
        PosixTileStore(tmp_path, files=Unknown())


def test_a_link_into_a_network_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / {tmp_path.resolve() / 'far'} rw - nfs x rw\n"
    assert file_system_of(tmp_path / "near" / "log", mounts) == "nfs"
