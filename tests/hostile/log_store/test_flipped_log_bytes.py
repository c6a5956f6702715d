# SPDX-License-Identifier: Apache-2.0
"""One wrong byte anywhere in a log's files is found, named and undone (CORPUS F19 and 274, for the log's store)."""

from collections.abc import Mapping, Sequence

import pytest

from iap_authz.records.log_inspect import inspect_log
from iap_authz.records.log_inspect_checkpoint import CHECKPOINT_PATH
from iap_authz.records.log_inspect_findings import LogFault, LogInspection
from iap_authz.tlog.batch import Write
from iap_authz.tlog.note import VerifierKey
from tests.hostile.log_store.log_building import LOG_SIGNER, OTHER_SIGNER, small_log

VERIFIER = LOG_SIGNER.verifier()

SMALL = small_log(2, records=3)
SMALL_FILES = SMALL.store([8, 15])
LARGE = small_log(40, records=2)
LARGE_FILES = LARGE.store([14, 256, 300, 700])

MASKS = {"lowest-bit": 0x01, "all-bits": 0xFF}


def inspect(files: Mapping[str, bytes], verifiers: Sequence[VerifierKey] = (VERIFIER,)) -> LogInspection:
    return inspect_log(files.get, [path for path in files if path != CHECKPOINT_PATH], verifiers=verifiers)


def flip(files: Mapping[str, bytes], path: str, at: int, mask: int) -> dict[str, bytes]:
    content = files[path]
    return {**files, path: content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]}


def check_named(files: Mapping[str, bytes], path: str, at: int, mask: int, *, repaired: bool = True) -> None:
    verifiers = (VERIFIER,) if repaired else ()
    found = inspect(flip(files, path, at, mask), verifiers)
    (finding,) = found.findings
    want = files[path][at]
    assert (finding.kind, finding.path, finding.offset) == (LogFault.FLIPPED, path, at), str(finding)
    assert (finding.got, finding.want) == (want ^ mask, want)
    assert found.repairs == ((Write(path=path, content=files[path]),) if repaired else ())
    assert (found.confirmed, found.holds, found.problems) == (True, False, ())


@pytest.mark.parametrize("files", [SMALL_FILES, LARGE_FILES], ids=["small", "large"])
def test_a_whole_log_holds(files: dict[str, bytes]) -> None:
    found = inspect(files)
    assert (found.holds, found.findings, found.problems, found.repairs) == (True, (), (), ())
    assert (found.confirmed, found.signed) == (True, True)
    assert inspect(files, ()).signed is None
    assert inspect(files, ()).holds


def test_the_large_log_has_a_tile_above_its_tiles() -> None:
    assert "tile/1/000.p/2" in LARGE_FILES
    assert {"tile/0/000", "tile/0/000.p/14", "tile/entries/002.p/188", "tile/0/001.p/44"} <= set(LARGE_FILES)


@pytest.mark.parametrize("path", [path for path in SMALL_FILES if path.startswith("tile/0")])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_every_flipped_byte_of_a_tile_is_named(path: str, mask: int) -> None:
    for at in range(0, len(SMALL_FILES[path]), 5):
        check_named(SMALL_FILES, path, at, mask)


@pytest.mark.parametrize("path", [path for path in SMALL_FILES if path.startswith("tile/entries")])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_every_flipped_byte_of_a_bundle_is_named(path: str, mask: int) -> None:
    """Lengths and contents; every 71st byte, and those of the first length."""
    for at in (*range(3), *range(3, len(SMALL_FILES[path]), 71)):
        check_named(SMALL_FILES, path, at, mask)


@pytest.mark.parametrize("path", [path for path in LARGE_FILES if path != CHECKPOINT_PATH])
def test_full_and_partial_resources_of_every_level_are_checked(path: str) -> None:
    length = len(LARGE_FILES[path])
    for at in (0, 1, 31, length // 2, length - 1):
        check_named(LARGE_FILES, path, at, 0x20)


TEXT_BYTES = SMALL_FILES[CHECKPOINT_PATH].index(b"\n\n") + 1


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("repaired", [True, False], ids=["key", "no-key"])
def test_every_flipped_byte_of_a_checkpoints_text_is_named(mask: int, *, repaired: bool) -> None:
    """With the key, and without: the entries and the log's own leaves say what it was."""
    for at in range(TEXT_BYTES - (not repaired)):
        check_named(SMALL_FILES, CHECKPOINT_PATH, at, mask, repaired=repaired)


@pytest.mark.parametrize("digit", b"0123456789")
def test_a_size_that_became_another_size_is_named(digit: int) -> None:
    """Also the size of a checkpoint that was published before, whose tiles are still there."""
    at = SMALL_FILES[CHECKPOINT_PATH].index(b"\n") + 1
    for place in (at, at + 1):
        mask = SMALL_FILES[CHECKPOINT_PATH][place] ^ digit
        if mask:
            check_named(SMALL_FILES, CHECKPOINT_PATH, place, mask)
            check_named(SMALL_FILES, CHECKPOINT_PATH, place, mask, repaired=False)


@pytest.mark.parametrize("at", range(TEXT_BYTES, len(SMALL_FILES[CHECKPOINT_PATH]), 23))
def test_a_flipped_byte_of_a_signature_is_named(at: int) -> None:
    check_named(SMALL_FILES, CHECKPOINT_PATH, at, 0x01)


def test_the_last_byte_of_a_checkpoint_is_named() -> None:
    check_named(SMALL_FILES, CHECKPOINT_PATH, len(SMALL_FILES[CHECKPOINT_PATH]) - 1, 0x80)


@pytest.mark.parametrize("line", [0, 1])
@pytest.mark.parametrize("part", ["key-id", "signature"])
def test_during_a_rotation_both_signatures_are_checked(line: int, part: str) -> None:
    files = {**SMALL_FILES, CHECKPOINT_PATH: SMALL.note(signers=[LOG_SIGNER, OTHER_SIGNER])}
    verifiers = [VERIFIER, OTHER_SIGNER.verifier()]
    assert inspect(files, verifiers).holds
    assert inspect(files, verifiers[:1]).holds
    note = files[CHECKPOINT_PATH]
    at = note.index(b"orders ", [note.index(b"\n\n"), note.rindex(b"\n", 0, -1)][line]) + (
        8 if part == "key-id" else 20
    )
    found = inspect(flip(files, CHECKPOINT_PATH, at, 0x01), verifiers)
    assert [(finding.kind, finding.offset) for finding in found.findings] == [(LogFault.FLIPPED, at)]
    assert found.repairs == (Write(path=CHECKPOINT_PATH, content=note),)
