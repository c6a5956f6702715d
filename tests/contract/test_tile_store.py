# SPDX-License-Identifier: Apache-2.0
"""`ports.TileStore`: one suite for every implementation."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from iap_authz.adapters.stores.posix import PosixTileStore
from iap_authz.errors import Corrupt, HeadMoved, Malformed
from iap_authz.ports import TileStore
from iap_authz.tlog.batch import Write
from iap_authz.tlog.tiles import Bundle, Tile, render_bundle_path, render_tile_path
from tests.fakes.stores import MemoryTileStore

Open = Callable[[], TileStore]


def same(store: TileStore) -> Open:
    return lambda: store


@pytest.fixture(params=["posix", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the one store of a test: each time as another process would."""
    if request.param == "posix":
        yield lambda: PosixTileStore(tmp_path / "log")
    else:
        yield same(MemoryTileStore())


def stage(size: int, letter: str = "a") -> str:
    return f"stage/{size:020d}-{letter * 64}"


TILE = render_tile_path(Tile(0, 0))
BUNDLE = render_bundle_path(Bundle(1_234_067, 7))
EVERY_KIND = [
    Write(path=stage(1), content=b"stage"),
    Write(path=stage((1 << 63) - 1), content=b"last stage"),
    Write(path=TILE, content=b"tile"),
    Write(path=render_tile_path(Tile(0, 0, 255)), content=b"partial tile"),
    Write(path=render_tile_path(Tile(63, 1_000)), content=b"high tile"),
    Write(path=render_bundle_path(Bundle(0)), content=b"bundle"),
    Write(path=BUNDLE, content=b"partial bundle"),
    Write(path=render_bundle_path(Bundle(2)), content=b""),
    Write(path=render_bundle_path(Bundle(3)), content=bytes(range(256)) * 4096),
]


def test_a_new_store_has_nothing(reopen: Open) -> None:
    store = reopen()
    assert [store.read(path) for path in ("checkpoint", *(write.path for write in EVERY_KIND))] == [None] * 10
    assert store.stages() == []


def test_what_was_created_is_read(reopen: Open) -> None:
    reopen().create(EVERY_KIND)
    assert [reopen().read(write.path) for write in EVERY_KIND] == [write.content for write in EVERY_KIND]


def test_nothing_may_be_created(reopen: Open) -> None:
    reopen().create([])
    assert reopen().stages() == []


def test_creating_the_same_again_changes_nothing(reopen: Open) -> None:
    store = reopen()
    store.create(EVERY_KIND[:3])
    store.create(EVERY_KIND)
    reopen().create([*EVERY_KIND, *EVERY_KIND])
    assert [reopen().read(write.path) for write in EVERY_KIND] == [write.content for write in EVERY_KIND]


@pytest.mark.parametrize("content", [b"tilE", b"tile+", b"til", b""])
def test_c6_other_bytes_are_corrupt_and_nothing_is_overwritten(reopen: Open, content: bytes) -> None:
    reopen().create([Write(path=TILE, content=b"tile")])
    with pytest.raises(Corrupt):
        reopen().create([Write(path=TILE, content=content)])
    assert reopen().read(TILE) == b"tile"


def test_c6_two_contents_in_one_call_are_corrupt(reopen: Open) -> None:
    with pytest.raises(Corrupt):
        reopen().create([Write(path=TILE, content=b"first"), Write(path=TILE, content=b"second")])
    assert reopen().read(TILE) == b"first"


HOSTILE_PATHS = [
    "",
    "/",
    ".",
    "..",
    "checkpoint/",
    "Checkpoint",
    "/checkpoint",
    "./checkpoint",
    "lock",
    "unnamed/00",
    "stage",
    "stage/",
    f"stage/../{stage(1)}",
    f"stage/{1:019d}-{'a' * 64}",
    f"stage/{1:021d}-{'a' * 64}",
    f"stage/{1 << 63:020d}-{'a' * 64}",
    f"stage/{1:020d}-{'A' * 64}",
    f"stage/{1:020d}-{'a' * 63}",
    f"stage/{1:020d}-{'a' * 65}",
    f"stage/{1:020d}_{'a' * 64}",
    "stage/" + "\N{ARABIC-INDIC DIGIT ONE}" * 20 + f"-{'a' * 64}",
    f"/{stage(1)}",
    f"{stage(1)}/",
    f"{stage(1)}\n",
    f"{stage(1)}\0",
    "tile",
    "tile/",
    "tile/0",
    "tile/0/",
    "tile/0/0",
    "tile/0/000/",
    "tile/0/000\n",
    "tile/0/000\0",
    "tile/0/../0/000",
    "tile/../../etc/passwd",
    "tile//0/000",
    "/tile/0/000",
    "tile\\0\\000",
    "tile/00/000",
    "tile/64/000",
    "tile/-1/000",
    "tile/0/x000/000",
    "tile/0/001/000",
    "tile/0/000.p/0",
    "tile/0/000.p/256",
    "tile/0/000.p/01",
    "tile/entries/000.p/256",
    "tile/entries/../../checkpoint",
    "tile/entries/000.tmp",
    "tile/data/000",
    "tile/0/%30%30%30",
    "tile/0/" + "x000/" * 20_000 + "000",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=[ascii(path[:100]) for path in HOSTILE_PATHS])
def test_other_paths_are_malformed(reopen: Open, path: str) -> None:
    store = reopen()
    with pytest.raises(Malformed):
        store.read(path)
    with pytest.raises(Malformed):
        store.create([Write(path=TILE, content=b"tile"), Write(path=path, content=b"x")])
    with pytest.raises(Malformed):
        store.discard(path)
    assert store.read(TILE) is None, "nothing is written when one path of a call is malformed"


def test_the_checkpoint_is_only_published(reopen: Open) -> None:
    with pytest.raises(Malformed):
        reopen().create([Write(path="checkpoint", content=b"note")])
    assert reopen().read("checkpoint") is None


@pytest.mark.parametrize("path", ["checkpoint", TILE, BUNDLE])
def test_only_stages_are_discarded(reopen: Open, path: str) -> None:
    store = reopen()
    store.create([Write(path=one, content=b"x") for one in (TILE, BUNDLE)])
    store.publish(b"note", expected=None)
    with pytest.raises(Malformed):
        store.discard(path)
    assert reopen().read(path) is not None


def test_c4_publishing_goes_from_one_to_the_next(reopen: Open) -> None:
    reopen().publish(b"one", expected=None)
    assert reopen().read("checkpoint") == b"one"
    reopen().publish(b"two", expected=b"one")
    assert reopen().read("checkpoint") == b"two"


@pytest.mark.parametrize("expected", [None, b"", b"one", b"two ", b"three"])
def test_c4_a_moved_checkpoint_stays(reopen: Open, expected: bytes | None) -> None:
    store = reopen()
    store.publish(b"one", expected=None)
    store.publish(b"two", expected=b"one")
    with pytest.raises(HeadMoved):
        store.publish(b"three", expected=expected)
    assert reopen().read("checkpoint") == b"two"


@pytest.mark.parametrize("expected", [b"", b"one"])
def test_c4_a_checkpoint_that_is_absent_is_not_expected(reopen: Open, expected: bytes) -> None:
    with pytest.raises(HeadMoved):
        reopen().publish(b"one", expected=expected)
    assert reopen().read("checkpoint") is None


def test_an_empty_checkpoint_is_not_an_absent_one(reopen: Open) -> None:
    reopen().publish(b"", expected=None)
    assert reopen().read("checkpoint") == b""
    with pytest.raises(HeadMoved):
        reopen().publish(b"one", expected=None)
    reopen().publish(b"one", expected=b"")


def test_stages_come_in_order(reopen: Open) -> None:
    paths = [stage(2), stage(10, "b"), stage(10, "a"), stage(1), stage(300_000_000_000)]
    reopen().create([Write(path=path, content=path.encode()) for path in paths])
    assert reopen().stages() == [stage(1), stage(2), stage(10, "a"), stage(10, "b"), stage(300_000_000_000)]


def test_a_discarded_stage_is_gone_and_no_other(reopen: Open) -> None:
    reopen().create([Write(path=stage(size), content=b"%d" % size) for size in (1, 2, 3)])
    reopen().discard(stage(2))
    assert reopen().stages() == [stage(1), stage(3)]
    assert reopen().read(stage(2)) is None
    assert reopen().read(stage(3)) == b"3"


def test_discarding_what_is_absent_is_fine(reopen: Open) -> None:
    store = reopen()
    store.discard(stage(1))
    store.create([Write(path=stage(1), content=b"x")])
    store.discard(stage(1))
    store.discard(stage(1))
    assert store.stages() == []


def test_a_discarded_stage_may_come_again_with_other_bytes(reopen: Open) -> None:
    store = reopen()
    store.create([Write(path=stage(1), content=b"x")])
    store.discard(stage(1))
    store.create([Write(path=stage(1), content=b"y")])
    assert reopen().read(stage(1)) == b"y"


def test_many_writes_in_one_call(reopen: Open) -> None:
    writes = [Write(path=render_bundle_path(Bundle(index)), content=b"%d" % index) for index in range(950, 1_150)]
    reopen().create(writes)
    assert [reopen().read(write.path) for write in writes] == [write.content for write in writes]


def test_threads_may_create_the_same(reopen: Open) -> None:
    store = reopen()
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(store.create, EVERY_KIND) for _ in range(16)]:
            done.result()
    assert [reopen().read(write.path) for write in EVERY_KIND] == [write.content for write in EVERY_KIND]


def test_of_threads_that_create_different_bytes_one_wins(reopen: Open) -> None:
    store = reopen()

    def create(number: int) -> bool:
        with suppress(Corrupt):
            store.create([Write(path=TILE, content=b"%d" % number)])
            return True
        return False

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(16)))
    assert reopen().read(TILE) == b"%d" % won.index(True)
    assert won.count(True) == 1


def test_c4_of_publishers_one_wins(reopen: Open) -> None:
    stores = [reopen() for _ in range(4)]
    for store in stores:
        store.create(EVERY_KIND[:1])
    before: bytes | None = None

    def publish(number: int, expected: bytes | None) -> bool:
        with suppress(HeadMoved):
            stores[number].publish(b"%d after %r" % (number, expected), expected=expected)
            return True
        return False

    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            won = [done.result() for done in [threads.submit(publish, number, before) for number in range(4)]]
            assert won.count(True) == 1
            before = b"%d after %r" % (won.index(True), before)
            assert reopen().read("checkpoint") == before
            before = before[:1]
            stores[0].publish(before, expected=reopen().read("checkpoint"))
