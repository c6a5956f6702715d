# SPDX-License-Identifier: Apache-2.0
"""examples/proof_query.py: proofs of the log, checked by a program that has none of our code, as a user runs it."""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.audit_grpc.server import AuditServer
from iap_authz.client import asks
from iap_authz.client.view import LogView
from iap_authz.records.record import audit_id
from tests.fakes.lying_log import JUNK, LyingLog
from tests.fakes.senders import MemoryCheckpoints, Sender

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "proof_query.py"
LINES_MAX = 60

Twist = Callable[[Any], object]


async def filled() -> tuple[LyingLog, Sender]:
    """Signed sizes 1, 6, 10, 14, and 16, which is a power of two."""
    log, sender = LyingLog(), Sender()
    view = LogView(log.verifier, MemoryCheckpoints())
    await asks.register(log, view, sender.registration())
    for count in (3, 3, 3, 1):
        await asks.append(log, view, sender.batch(count))
    return log, sender


async def query(log: LyingLog, folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error of the script."""
    address = f"unix:{folder / 's'}"
    server = AuditServer(log, log, address=address)
    await server.start()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            address,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    finally:
        await server.stop(0.0)
    return process.returncode, output.decode(), errors.decode()


def test_every_record_from_every_signed_size(tmp_path: Path) -> None:
    async def test() -> None:
        log, sender = await filled()
        asked, answers = [(1, 0), (6, 3), (10, 4), (14, 9), (16, 10)], []
        for old, sequence in asked:
            (folder := tmp_path / str(old)).mkdir()
            answers.append(query(log, folder, log.verifier.render(), audit_id(sender.leaves[sequence]), str(old)))
        for (old, sequence), answer in zip(asked, await asyncio.gather(*answers), strict=True):
            index = log.leaves.index(sender.leaves[sequence])
            expected = f"included at index {index} of 16\n16 is consistent with {old}\n"
            assert answer == (0, expected, "")

    asyncio.run(test())


def of(name: str, change: Twist) -> Twist:
    def twist(answer: Any) -> None:
        if answer.DESCRIPTOR.name == name:
            change(answer)

    return twist


def drop_last(answer: log_pb2.GetConsistencyProofResponse) -> None:
    del answer.proof[-1:]


LIES: dict[str, Twist] = {
    "index": of("GetInclusionProofResponse", lambda answer: setattr(answer, "index", 4)),
    "inclusion": of("GetInclusionProofResponse", lambda answer: answer.proof.append(JUNK)),
    "consistency": of("GetConsistencyProofResponse", drop_last),
    "note": of(
        "GetCheckpointResponse", lambda answer: setattr(answer, "checkpoint", answer.checkpoint[:-8] + b"AAAAAA=\n")
    ),
}


def test_a_lie_ends_in_1_and_says_nothing_that_is_not_so(tmp_path: Path) -> None:
    async def test() -> None:
        answers = []
        for name, lie in LIES.items():
            log, sender = await filled()
            log.twist_answer = lie
            (folder := tmp_path / name).mkdir()
            answers.append(query(log, folder, log.verifier.render(), audit_id(sender.leaves[1]), "10"))
        for name, (code, output, errors) in zip(LIES, await asyncio.gather(*answers), strict=True):
            assert code == 1
            assert errors
            assert output == ("included at index 2 of 16\n" if name == "consistency" else "")

    asyncio.run(test())


def test_another_key_is_not_the_logs(tmp_path: Path) -> None:
    async def test() -> None:
        log, sender = await filled()
        other = LyingLog(seed="another key").verifier.render()
        code, output, errors = await query(log, tmp_path, other, audit_id(sender.leaves[1]), "10")
        assert (code, output) == (1, "")
        assert errors

    asyncio.run(test())


def test_it_is_short_and_has_none_of_our_code() -> None:
    source = SCRIPT.read_text()
    assert len(source.splitlines()) <= LINES_MAX
    imported = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
    standard = {"base64", "hashlib", "importlib", "sys", "tempfile", "pathlib", "typing"}
    assert set(imported) == standard | {"grpc", "grpc_tools", "cryptography"}
    assert "iap_authz" not in source


@pytest.mark.parametrize("name", LIES)
def test_the_lies_are_told(name: str) -> None:
    before = log_pb2.GetInclusionProofResponse(index=2)
    LIES[name](before)
    assert (before == log_pb2.GetInclusionProofResponse(index=2)) == (name in {"consistency", "note"})
