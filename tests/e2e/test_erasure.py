# SPDX-License-Identifier: Apache-2.0
"""A person is forgotten, through everything as it is in production: Envoy, sidecar, log, command line (rules S1 to S9).

Every proof holds before and after; afterwards no file of the services has the name, or a key, of the person.
"""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iap_authz.demo.cases import CASES
from iap_authz.demo.live import Live, find_envoy, go_live_logged

AUTHORITY = "TICKET-7"
WRITTEN = ("journal", "log", "logs", "auditor.checkpoint", "cli.checkpoint")
"""What the services and the command line write in the folder of the demonstration."""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with go_live_logged(tmp_path, envoy=find_envoy()) as live:
        yield live


def run(live: Live, *arguments: str, token: str = "", want: int = 0) -> str:
    """A command, as one types it; its output. `token` is whose."""
    folder = live.world.folder
    place = ["--log", live.logs.honest.address, "--key", live.logs.honest.verifier.render()]
    place += ["--checkpoint", str(folder / "cli.checkpoint")]
    place += ["--token-file", str(folder / f"{token}.token")] if token else []
    command = [sys.executable, "-m", "iap_authz", *arguments, *place]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == want, (arguments, ended.returncode, ended.stdout, ended.stderr)
    return ended.stdout


def found(live: Live, *filters: str, unseal: bool = False, want: int = 0) -> list[dict[str, object]]:
    """The records of a search; with `unseal` as an investigator sees them."""
    more = ["--unseal", "--reason", "case 12"] if unseal else []
    token = "investigator" if unseal else ""
    out = run(live, "records", "search", "--json", *filters, *more, token=token, want=want)
    records: list[dict[str, object]] = json.loads(out)["records"]
    return records


def subject_of(record: dict[str, object]) -> str:
    facts = record["personal"]["decision"]["facts"]  # type: ignore[index]
    return str(facts["identity"].get("subject", ""))


def wait_indexed(live: Live, audit_id: str) -> None:
    for _ in range(100):
        if any(one["audit_id"] == audit_id for one in found(live, "--newest", "--limit", "20")):
            return
    raise AssertionError("the record did not get into the index")


def sealed_keys(live: Live) -> dict[int, tuple[bytes, bytes]]:
    """The sealed subject keys of the log, and the companions that hold them, by number."""
    with sqlite3.connect(f"file:{live.logs.honest.store}/trail.sqlite?mode=ro", uri=True) as connection:
        rows = connection.execute("select number, sealed, companion from subject_keys").fetchall()
    return {number: (sealed, companion) for number, sealed, companion in rows}


def holding(live: Live, *secrets: bytes) -> list[str]:
    """The files that the services have written and that hold one of these."""
    folder = live.world.folder
    roots = [folder / name for name in WRITTEN]
    for _ in range(20):
        files = [path for root in roots for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file()]
        try:
            contents = {path: path.read_bytes() for path in files}
        except FileNotFoundError:
            # A file took another name, or was trimmed, between the two: only a look at all of them says something.
            continue
        return [f"{path.relative_to(folder)}: {one!r}" for path in files for one in secrets if one in contents[path]]
    raise AssertionError("the files change faster than they are read")


def seal_epoch_of(live: Live, record: dict[str, object]) -> int:
    """Of the key that seals a record."""
    with sqlite3.connect(f"file:{live.logs.honest.store}/trail.sqlite?mode=ro", uri=True) as connection:
        (key,) = connection.execute("select key from companions where log_index = ?", (record["index"],)).fetchone()
        number = int.from_bytes(key, "big")
        (epoch,) = connection.execute("select seal_epoch from subject_keys where number = ?", (number,)).fetchone()
    return int.from_bytes(epoch, "big")


def test_a_person_is_forgotten_and_every_proof_stays(live: Live, tmp_path: Path) -> None:
    case, other = CASES[0], next(one for one in CASES if one.token and one.token != CASES[0].token)
    first = live.ask(case).audit_id
    last = live.ask(other).audit_id
    wait_indexed(live, last)

    everything = found(live, "--body", "decision")
    assert all(one["sealed"] is True and "open" not in one for one in everything)
    (opened,) = [one for one in found(live, "--body", "decision", unseal=True) if one["audit_id"] == first]
    subject = subject_of(opened)
    assert subject
    assert holding(live, subject.encode()) == []
    mine = found(live, "--subject", subject)
    assert first in {one["audit_id"] for one in mine}
    assert last not in {one["audit_id"] for one in mine}
    for one in mine:
        run(live, "prove", "record", str(one["audit_id"]), "-o", str(tmp_path / f"{one['audit_id']}.before"))

    before = sealed_keys(live)
    erase = ("erase", "--subject", subject, "--authority", AUTHORITY, "--json")
    assert json.loads(run(live, *erase, token="privacy_officer"))["records"] == len(mine)
    assert before.items() <= sealed_keys(live).items(), "a dry run changes nothing"
    run(live, *erase, "--yes", token="investigator", want=1)
    run(live, "hold", "place", "--authority", "court", "--matter", "K-1", "--subject", subject, token="privacy_officer")
    run(live, *erase, "--yes", token="privacy_officer", want=1)
    (hold,) = json.loads(run(live, "hold", "list", "--json", token="privacy_officer"))
    run(live, "hold", "release", hold["hold"], "--authority", "court", token="privacy_officer")

    state = json.loads(run(live, *erase, "--yes", token="privacy_officer"))
    late = live.ask(case).audit_id
    live.ask(other)
    done = json.loads(
        run(live, "erase", "--status", state["erasure"], "--wait", "90", "--json", token="privacy_officer")
    )
    assert done["stage"] == "complete", done

    erased = [number for number, (sealed, _) in sealed_keys(live).items() if not any(sealed)]
    assert erased
    gone = [secret for number in erased for secret in before.get(number, ())]
    assert gone
    assert holding(live, subject.encode(), *gone) == []
    # The late one was erased too, unless the sidecar had heard of the erasure before, and sealed it with a new key.
    left = found(live, "--subject", subject)
    assert [one["audit_id"] for one in left] in ([], [late])
    assert all(seal_epoch_of(live, one) >= int(done["seal_epoch"]) for one in left)
    for one in mine:
        shown = run(
            live, "records", "show", str(one["audit_id"]), "--unseal", "--reason", "x", token="investigator", want=3
        )
        assert json.loads(shown)["unsealed"] == "erased"
        proof = str(tmp_path / f"{one['audit_id']}.after")
        run(live, "prove", "record", str(one["audit_id"]), "-o", proof)
    key = live.logs.honest.verifier.render()
    for path in [*tmp_path.glob("*.before"), *tmp_path.glob("*.after")]:
        command = [sys.executable, "-m", "iap_authz", "verify", str(path), "--log-key", key]
        assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    again = live.ask(case).audit_id
    wait_indexed(live, again)
    anew = found(live, "--subject", subject, unseal=True)
    assert [one["audit_id"] for one in anew] == [*(one["audit_id"] for one in left), again]
    assert {subject_of(one) for one in anew} == {subject}
    fsck = [sys.executable, "-m", "iap_authz", "fsck", str(live.logs.honest.store), "--key", key]
    assert subprocess.run(fsck, capture_output=True, timeout=60, check=False).returncode == 0
