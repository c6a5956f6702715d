# SPDX-License-Identifier: Apache-2.0
"""`iap-authz fsck` of an audit log's folder: verdict, exit code, repair."""

import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iap_authz.cli import log_folder, make_app
from iap_authz.errors import ConfigInvalid
from iap_authz.records.log_inspect import inspect_log
from iap_authz.records.log_inspect_checkpoint import CHECKPOINT_PATH
from tests.fakes.journal import FixedSigner, build_segments, sample_leaves, store_segments
from tests.hostile.log_store.log_building import LOG_SIGNER, OTHER_SIGNER, LogBuilder, small_log, write_store

KEY = LOG_SIGNER.verifier().render()
LOG = small_log(20, records=3)
FILES = LOG.store([14])
BUNDLE, TILE, OLDER_TILE = "tile/entries/000", "tile/0/000", "tile/0/000.p/14"
LAST_TILE = f"tile/0/001.p/{len(LOG.leaves) - 256}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_store(tmp_path / "log", FILES)


def run(*arguments: object) -> Result:
    words = ["fsck", *(str(one) for one in arguments)]
    return CliRunner().invoke(make_app(["fsck"]), words, env={"COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"})


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def stored(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_whole_log_is_0_with_its_key_and_3_without(folder: Path) -> None:
    held = run(folder, "--key", KEY)
    assert (held.exit_code, "intact" in held.output) == (0, True)
    assert f"{len(LOG.leaves)} leaves of 2 writers" in held.output
    unsigned = run(folder)
    assert unsigned.exit_code == 3
    assert "the signature was not checked" in unsigned.output
    assert stored(folder) == FILES


def test_the_key_may_be_in_a_file_and_must_be_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert run(folder, "--key", f"@{tmp_path / 'key'}").exit_code == 0
    assert run(folder, "--key", "no key").exit_code == 2
    other = run(folder, "--key", OTHER_SIGNER.verifier().render())
    assert (other.exit_code, "unproven" in other.output) == (1, True)


def test_json_says_the_same(folder: Path) -> None:
    report = json.loads(run(folder, "--key", KEY, "--json").stdout)
    assert (report["holds"], report["signed"], report["size"]) == (True, True, len(LOG.leaves))
    assert report["root"] == LOG.root().hex()
    assert [one["records"] for one in report["writers"]] == [253, 41]
    assert json.loads(run(folder, "--json").stdout)["holds"] is None
    flip(folder / BUNDLE, 1000)
    report = json.loads(run(folder, "--key", KEY, "--json").stdout)
    (finding,) = report["findings"]
    want = FILES[BUNDLE][1000]
    assert (finding["path"], finding["byte"], finding["got"], finding["want"]) == (BUNDLE, 1000, want ^ 0x40, want)
    assert (report["holds"], report["repairable"], report["repaired"]) == (False, [BUNDLE], [])


def test_damage_is_1_and_nothing_is_changed_unasked(folder: Path) -> None:
    flip(folder / BUNDLE, 1000)
    before = stored(folder)
    result = run(folder, "--key", KEY)
    assert result.exit_code == 1
    assert f"{BUNDLE}: byte 1000: flipped" in result.output
    assert "--repair" in result.output
    assert stored(folder) == before


def test_repair_makes_it_what_it_was(folder: Path) -> None:
    flip(folder / BUNDLE, 1000)
    flip(folder / CHECKPOINT_PATH, -20)
    (folder / LAST_TILE).unlink()
    (folder / OLDER_TILE).write_bytes(b"")
    result = run(folder, "--key", KEY, "--repair")
    assert result.exit_code == 0, result.output
    for path in (BUNDLE, LAST_TILE, OLDER_TILE, CHECKPOINT_PATH):
        assert f"repaired {path}" in result.output
    assert stored(folder) == FILES
    assert stat.S_IMODE((folder / LAST_TILE).stat().st_mode) == 0o600


def test_repair_of_a_whole_log_changes_nothing(folder: Path) -> None:
    assert run(folder, "--key", KEY, "--repair").exit_code == 0
    assert stored(folder) == FILES


def test_what_no_key_and_no_root_confirm_is_not_repaired(folder: Path) -> None:
    """A rewritten log whose tiles were lost too: repairing would make the forgery whole."""
    forged = LogBuilder(leaves=[*LOG.leaves[:-1], b"forged"])
    write_store(folder, {**forged.store(), CHECKPOINT_PATH: FILES[CHECKPOINT_PATH]})
    (folder / TILE).unlink()
    before = stored(folder)
    result = run(folder, "--key", KEY, "--repair")
    assert (result.exit_code, "nothing is repaired" in result.output) == (1, True)
    assert stored(folder) == before
    signed_by_other = write_store(folder, {**FILES, CHECKPOINT_PATH: LOG.note(signers=[OTHER_SIGNER])})
    (signed_by_other / TILE).unlink()
    assert run(folder, "--key", KEY, "--repair").exit_code == 1
    assert not (folder / TILE).exists()


def test_a_checkpoint_that_was_published_meanwhile_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(folder / CHECKPOINT_PATH, -20)

    def publish_behind(*arguments: object, **options: object) -> object:
        found = inspect_log(*arguments, **options)  # type: ignore[arg-type]
        (folder / CHECKPOINT_PATH).write_bytes(FILES[CHECKPOINT_PATH])
        return found

    monkeypatch.setattr(log_folder, "inspect_log", publish_behind)
    result = run(folder, "--key", KEY, "--repair")
    assert not any(line.startswith("repaired") for line in result.output.splitlines())
    assert stored(folder) == FILES


def test_a_repair_that_fails_leaves_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(folder / BUNDLE, 1000)
    before = stored(folder)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    result = run(folder, "--key", KEY, "--repair")
    monkeypatch.undo()
    assert isinstance(result.exception, ConfigInvalid)
    assert stored(folder) == before


def test_a_leftover_of_a_crashed_repair_is_told(folder: Path) -> None:
    (folder / "tile/0/.000.left").write_bytes(b"half")
    result = run(folder, "--key", KEY)
    assert (result.exit_code, "stray" in result.output) == (0, True)


def test_names_with_markup_are_shown_as_they_are(folder: Path) -> None:
    (folder / "tile/[bold]x").write_bytes(b"")
    assert "tile/[bold]x: stray" in run(folder, "--key", KEY).output


def test_a_journal_is_still_a_journal(tmp_path: Path) -> None:
    signer = FixedSigner()
    store_segments(tmp_path / "journal", signer.writer, build_segments(signer, [[sample_leaves(signer, 3)]]))
    result = run(tmp_path / "journal")
    assert (result.exit_code, "3 records verified, intact" in result.output) == (0, True)
    assert run(tmp_path).exit_code == 2
