# SPDX-License-Identifier: Apache-2.0
"""A log's files inspected: what is missing, cut, rewritten, staged; and what must not be repaired."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.records.log_inspect import inspect_log
from iap_authz.records.log_inspect_bundle import find_change, mend_bundle
from iap_authz.records.log_inspect_findings import LogFault, LogInspection
from iap_authz.tlog.batch import Stage, Write, plan, render_stage
from iap_authz.tlog.edge import EMPTY_EDGE, tree_of
from iap_authz.tlog.hashing import EMPTY_ROOT, NodeHash, TreeSize, leaf_hash, leaf_hashes
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.tiles import render_bundle
from tests.fakes.journal import ORIGIN
from tests.hostile.log_store.log_building import LOG_SIGNER, OTHER_SIGNER, LogBuilder, Writer, small_log

VERIFIER = LOG_SIGNER.verifier()
LOG = small_log(40, records=2)
FILES = LOG.store([14, 300])
SIZE = len(LOG.leaves)
OLDER = (".p/14", ".p/44", ".p/1")
"""How the names end of what was published at 14 and at 300 and has a fuller one since."""

LAST = f"tile/entries/00{SIZE // 256}.p/{SIZE % 256}"


def inspect(
    files: Mapping[str, bytes],
    *,
    verifiers: Sequence[VerifierKey] = (VERIFIER,),
    head: tuple[TreeSize, NodeHash] | None = None,
) -> LogInspection:
    paths = [path for path in files if path != "checkpoint"]
    return inspect_log(files.get, paths, verifiers=verifiers, head=head)


def told(found: LogInspection) -> list[tuple[str, str]]:
    return [(finding.kind.value, finding.path) for finding in found.findings]


def without(path: str) -> dict[str, bytes]:
    return {name: content for name, content in FILES.items() if name != path}


def test_a_log_is_reported_with_its_writers() -> None:
    found = inspect(FILES)
    assert (found.origin, found.size, found.root, found.holds) == (ORIGIN, SIZE, LOG.root(), True)
    assert (len(found.writers), found.batches) == (2, 82)
    assert (found.beyond.staged_size, found.beyond.files) == (SIZE, 0)


def test_each_file_is_read_a_bounded_number_of_times() -> None:
    read: list[str] = []

    def counted(path: str) -> bytes | None:
        read.append(path)
        return FILES.get(path)

    inspect_log(counted, [path for path in FILES if path != "checkpoint"], verifiers=[VERIFIER])
    assert set(FILES) - {path for path in FILES if path.endswith(OLDER)} <= set(read)
    assert all(read.count(path) == 1 for path in FILES if path.startswith("tile/entries/"))


def test_a_log_without_leaves_holds() -> None:
    files = {"checkpoint": LogBuilder().note()}
    found = inspect(files)
    assert (found.holds, found.size, found.root, found.writers) == (True, 0, EMPTY_ROOT, {})


# ---- missing and cut


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.startswith(("tile/0/", "tile/1/")) and not path.endswith(OLDER)],
)
def test_a_missing_tile_is_named_and_made_again(path: str) -> None:
    found = inspect(without(path))
    assert told(found) == [("missing", path)]
    assert found.repairs == (Write(path=path, content=FILES[path]),)
    assert not found.holds


@pytest.mark.parametrize("path", ["tile/entries/000", LAST])
def test_a_missing_bundle_is_named_and_cannot_be_made_again(path: str) -> None:
    """What its entries were is lost; that the rest is right is still known, and no other leaf is blamed."""
    found = inspect(without(path))
    assert told(found) == [("missing", path)]
    assert (found.repairs, found.confirmed) == ((), True)
    lost_registrations = path == "tile/entries/000"
    assert bool(found.problems) is lost_registrations
    assert not found.holds


def test_a_bundle_and_its_tile_are_missing() -> None:
    tile = LAST.replace("entries", "0")
    found = inspect({path: content for path, content in FILES.items() if path not in (LAST, tile)})
    assert [("missing", tile), ("missing", LAST)] == told(found)[:2]
    assert (found.repairs, found.confirmed, found.holds) == ((), False, False)
    inner = inspect(
        {path: content for path, content in FILES.items() if path not in ("tile/0/001", "tile/entries/001")}
    )
    assert told(inner) == [("missing", "tile/0/001"), ("missing", "tile/entries/001")]
    assert (inner.repairs, inner.confirmed, inner.holds) == ((), True, False)


@pytest.mark.parametrize("path", ["tile/0/001", "tile/1/000.p/4", "tile/0/000.p/14", "tile/entries/000.p/14"])
@pytest.mark.parametrize("change", [-1, -40, 1], ids=["short", "shorter", "long"])
def test_a_resource_of_another_length_is_made_again(path: str, change: int) -> None:
    files = {**FILES, path: FILES[path][:change] if change < 0 else FILES[path] + b"\0"}
    found = inspect(files)
    assert told(found) == [("damaged", path)]
    assert found.findings[0].offset == min(len(files[path]), len(FILES[path]))
    assert found.repairs == (Write(path=path, content=FILES[path]),)


def test_a_bundle_that_was_cut_names_the_entry_that_is_cut() -> None:
    found = inspect({**FILES, LAST: FILES[LAST][:-5]})
    (finding,) = found.findings
    assert (finding.kind, finding.path) == (LogFault.DAMAGED, LAST)
    assert f"entry {SIZE % 256 - 1}" in finding.message
    assert "cut by the end of the file" in finding.message
    assert (found.repairs, found.problems) == ((), ())


def test_a_bundle_with_more_bytes_is_made_again() -> None:
    found = inspect({**FILES, "tile/entries/000": FILES["tile/entries/000"] + b"more"})
    (finding,) = found.findings
    assert (finding.kind, finding.offset) == (LogFault.DAMAGED, len(FILES["tile/entries/000"]))
    assert found.repairs == (Write(path="tile/entries/000", content=FILES["tile/entries/000"]),)


# ---- several wrong bytes


def changed(path: str, *offsets: int) -> dict[str, bytes]:
    content = bytearray(FILES[path])
    for at in offsets:
        content[at] ^= 0x10
    return {**FILES, path: bytes(content)}


def test_wrong_bytes_in_several_files_are_each_named() -> None:
    files = {
        **changed("tile/0/001", 5, 700),
        "tile/entries/000": changed("tile/entries/000", 3)["tile/entries/000"],
    }
    found = inspect(files)
    assert [(finding.path, finding.offset) for finding in found.findings] == [
        ("tile/entries/000", 3),
        ("tile/0/001", 5),
        ("tile/0/001", 700),
    ]
    assert {write.path: write.content for write in found.repairs} == {
        path: FILES[path] for path in ("tile/entries/000", "tile/0/001")
    }


def test_an_entry_with_two_wrong_bytes_is_damaged_and_hides_nothing_after_it() -> None:
    starts = [0]
    for leaf in LOG.leaves[:255]:
        starts.append(starts[-1] + 2 + len(leaf))
    record = next(index for index in range(100, 200) if len(LOG.leaves[index]) < 150)
    found = inspect(changed("tile/entries/000", starts[record] + 40, starts[record] + 41, starts[record + 20] + 30))
    assert [(finding.kind, finding.offset) for finding in found.findings] == [
        (LogFault.DAMAGED, starts[record]),
        (LogFault.FLIPPED, starts[record + 20] + 30),
    ]
    assert (found.repairs, found.confirmed, found.problems) == ((), True, ())
    assert found.writers == inspect(FILES).writers


def test_a_bundle_and_the_tile_two_levels_up_at_the_same_place() -> None:
    """Two of the three witnesses of a hash are wrong: the byte that makes the bundle fit decides."""
    files = {**changed("tile/entries/001", 50), "tile/1/000.p/4": changed("tile/1/000.p/4", 40)["tile/1/000.p/4"]}
    found = inspect(files)
    assert [(finding.path, finding.offset) for finding in found.findings] == [
        ("tile/entries/001", 50),
        ("tile/1/000.p/4", 40),
    ]
    assert {write.path: write.content for write in found.repairs} == {
        path: FILES[path] for path in ("tile/entries/001", "tile/1/000.p/4")
    }


def test_many_wrong_bytes_of_a_tile_are_one_finding() -> None:
    found = inspect(changed("tile/0/000", *range(64, 96)))
    (finding,) = found.findings
    assert (finding.kind, finding.offset) == (LogFault.DAMAGED, 64)
    assert found.repairs == (Write(path="tile/0/000", content=FILES["tile/0/000"]),)


# ---- another log than was signed


def rewritten() -> dict[str, bytes]:
    """Somebody changes a record and makes every tile again, but cannot sign."""
    log = LogBuilder(leaves=list(LOG.leaves))
    log.leaves[-6] = log.leaves[-6][:60] + bytes([log.leaves[-6][60] ^ 1]) + log.leaves[-6][61:]
    return {**log.store([14, 300]), "checkpoint": FILES["checkpoint"]}


@pytest.mark.parametrize("verifiers", [(VERIFIER,), ()], ids=["key", "no-key"])
def test_a_rewritten_log_is_not_the_signed_one_and_is_not_repaired(verifiers: Sequence[VerifierKey]) -> None:
    found = inspect(rewritten(), verifiers=verifiers)
    assert ("unproven", "checkpoint") in told(found)
    assert (found.confirmed, found.holds, found.repairs) == (False, False, ())


def test_a_rewritten_record_that_is_repaired_elsewhere_is_still_refused() -> None:
    files = rewritten()
    del files["tile/0/000"]
    found = inspect(files)
    assert {("missing", "tile/0/000"), ("unproven", "checkpoint")} <= set(told(found))
    assert found.repairs == ()


def test_a_log_signed_by_somebody_else_does_not_hold_and_is_not_repaired() -> None:
    files = {**without("tile/0/000"), "checkpoint": LOG.note(signers=[OTHER_SIGNER])}
    found = inspect(files)
    assert told(found) == [("missing", "tile/0/000"), ("unproven", "checkpoint")]
    assert (found.confirmed, found.signed, found.repairs) == (True, False, ())
    unasked = inspect(files, verifiers=())
    assert (unasked.signed, told(unasked)) == (None, [("missing", "tile/0/000")])


def test_another_logs_key_does_not_open_this_log() -> None:
    stranger = replace(LOG_SIGNER, name="log.example.com/other").verifier()
    found = inspect(FILES, verifiers=[stranger])
    assert (found.signed, found.holds) == (False, False)
    assert "unproven" in {kind for kind, _ in told(found)}


@pytest.mark.parametrize("note", [b"", b"no checkpoint at all\n", bytes(300)], ids=["empty", "text", "zeros"])
def test_a_checkpoint_that_is_none(note: bytes) -> None:
    found = inspect({**FILES, "checkpoint": note})
    assert told(found)[-1] == ("unproven", "checkpoint")
    assert (found.confirmed, found.holds, found.repairs) == (False, False, ())


def test_a_missing_checkpoint_is_named_and_the_tree_is_recomputed() -> None:
    found = inspect(without("checkpoint"))
    assert told(found) == [("missing", "checkpoint")]
    assert (found.size, found.root, found.confirmed) == (SIZE, LOG.root(), False)


def test_an_older_checkpoint_that_was_put_back_holds_for_its_size() -> None:
    """A rollback is not in the files: it takes somebody who has seen more (rules G2, G5). What lies beyond is said."""
    size = next(end for end in ENDS if end > 300)
    files = {**LOG.store([size]), "checkpoint": LOG.note(size)}
    found = inspect(files)
    assert (found.size, found.holds, told(found)) == (size, True, [])
    assert found.beyond.files == 2 * (len(LOG.leaves) // 256) + 1
    with_head = inspect(files, head=(TreeSize(SIZE), NodeHash(LOG.root())))
    assert told(with_head) == [("unproven", "checkpoint")]


def test_two_views_of_a_log_are_seen_by_what_a_writer_quoted() -> None:
    """G3: the hidden view is the one that a writer has verified and embedded."""
    log, writer = LogBuilder(), Writer.of("writer")
    log.register(writer)
    log.batch(writer, 2)
    hidden = LogBuilder(leaves=[*log.leaves[:-1], b"hidden"])
    log.batch(writer, bodies=[record_pb2.Heartbeat(log_checkpoint=hidden.note())])
    log.batch(writer, bodies=[record_pb2.Heartbeat(log_checkpoint=log.note())])
    found = inspect(log.store())
    ((problem),) = found.problems
    assert (problem.index, "two views of this log" in problem.message) == (4, True)
    assert not found.holds


def test_quotes_of_every_size_are_looked_up() -> None:
    log, writer = LogBuilder(), Writer.of("writer")
    log.register(writer)
    log.batch(writer, 2)
    for count in (1, 5, 240, 8, 300, 17, 180):
        log.batch(writer, count)
        log.batch(writer, bodies=[record_pb2.Heartbeat(log_checkpoint=log.note())])
    assert len(log.leaves) > 512
    assert inspect(log.store()).problems == ()


# ---- beyond the checkpoint


def staged(*cuts: int) -> dict[str, bytes]:
    """A log that is published at the first cut, and staged up to the others."""
    log = LogBuilder(leaves=LOG.leaves[: cuts[0]])
    files = log.store()
    edge = plan(tree_of(EMPTY_EDGE), log.leaves, edge=EMPTY_EDGE).edge
    for begin, end in pairwise(cuts):
        entries = tuple(LOG.leaves[begin:end])
        stage = Stage(edge=edge, root=tree_of(edge).root(), entries=entries)
        result = plan(tree_of(edge), entries, edge=edge)
        files[f"stage/{end:020d}-{result.tree.root().hex()}"] = render_stage(stage)
        edge = result.edge
    return files


def ends_of_batches() -> list[int]:
    found = inspect(FILES)
    assert found.holds
    ends = [0]
    for index, leaf in enumerate(LOG.leaves):
        if record_pb2.Record.FromString(leaf).WhichOneof("body") == "writer_checkpoint":
            ends.append(index + 1)
    return ends[1:]


ENDS = ends_of_batches()


def test_stages_are_followed_to_where_they_lead() -> None:
    files = staged(*ENDS[5:8])
    found = inspect(files, head=(TreeSize(ENDS[7]), NodeHash(LOG.root(ENDS[7]))))
    assert (found.holds, found.size, found.batches) == (True, ENDS[5], 8)
    assert (found.beyond.staged_size, found.beyond.root) == (ENDS[7], LOG.root(ENDS[7]))


def test_a_gap_in_the_stages_ends_what_is_covered() -> None:
    files = staged(*ENDS[5:9])
    del files[sorted(path for path in files if path.startswith("stage/"))[1]]
    found = inspect(files)
    assert (found.holds, found.beyond.staged_size) == (True, ENDS[6])
    head = TreeSize(ENDS[8]), NodeHash(LOG.root(ENDS[8]))
    assert told(inspect(files, head=head)) == [("unproven", "checkpoint")]


@pytest.mark.parametrize("part", ["magic", "root", "entry", "end"])
def test_a_damaged_stage_is_named(part: str) -> None:
    files = staged(*ENDS[5:7])
    (path,) = (path for path in files if path.startswith("stage/"))
    at = {"magic": 0, "root": 40, "entry": -30, "end": len(files[path])}[part]
    files[path] = files[path] + b"\0" if part == "end" else files[path][:at] + b"\xff" + files[path][at:][1:]
    found = inspect(files)
    assert told(found) == [("damaged", path)]
    assert (found.holds, found.beyond.staged_size) == (False, ENDS[5])


def test_a_stage_under_another_name_is_damaged() -> None:
    files = staged(*ENDS[5:7])
    (path,) = (path for path in files if path.startswith("stage/"))
    renamed = f"stage/{ENDS[6]:020d}-{sha256(b'').hexdigest()}"
    files[renamed] = files.pop(path)
    assert told(inspect(files)) == [("damaged", renamed)]


@pytest.mark.parametrize("path", ["tile/0/000.p/256", "tile/x", "stage/1", "tile/entries/1000", "stage/.tmp"])
def test_a_file_that_no_log_has_is_told_and_is_no_fault(path: str) -> None:
    found = inspect({**FILES, path: b"x"})
    assert (told(found), found.holds) == ([("stray", path)], True)


# ---- single bytes


def test_a_wrong_length_is_told_from_a_wrong_content() -> None:
    entries = [bytes([number]) * (300 + number) for number in range(4)]
    content, leaves = render_bundle(entries), leaf_hashes(entries)
    assert mend_bundle("p", content, leaves=leaves).findings == ()
    for at in (0, 1, 2, 301, 302, 303, 304, len(content) - 1):
        wrong = content[:at] + bytes([content[at] ^ 0x81]) + content[at + 1 :]
        mended = mend_bundle("p", wrong, leaves=leaves)
        assert [(one.offset, one.want) for one in mended.findings] == [(at, content[at])]
        assert (mended.content, mended.entries) == (content, tuple(entries))


def test_of_a_large_entry_only_single_bits_are_tried() -> None:
    entry = bytes(5_000)
    assert list(find_change(b"\x10" + entry[1:], leaf_hash(entry))) == [(0, 0)]
    assert list(find_change(b"\x11" + entry[1:], leaf_hash(entry))) == []
