# SPDX-License-Identifier: Apache-2.0
"""An older copy of a log's files is put back: it refuses to start and says what to do, or freezes (CORPUS F20)."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client.channel import LogChannel
from iap_authz.errors import LogFrozen
from tests.fakes.log_core import Shipper
from tests.fakes.log_process import TOKEN, LogProcess

HEAD_FILES = ("head.sqlite",)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LogProcess]:
    process = LogProcess(tmp_path / "log")
    try:
        yield process
    finally:
        process.kill()


async def ship(process: LogProcess, writer: Shipper, batches: int, *, last: bytes = b"") -> log_pb2.Receipt:
    """Register and send so many batches; the last receipt."""
    channel = LogChannel(process.address)
    try:
        await channel.register(writer.registration(token=TOKEN))
        if len(writer.notes) == 1:
            await channel.append(writer.batch(0, 1))
        answers = [await channel.append(writer.batch(*writer.add(30), last=last)) for _ in range(batches)]
        return answers[-1].receipt
    finally:
        await channel.close()


def live(process: LogProcess, writer: Shipper) -> log_pb2.Receipt:
    """One life of the log, ended as an operator does."""
    process.start()
    receipt = asyncio.run(ship(process, writer, 12))
    assert process.stop() == 0
    return receipt


def put_back(process: LogProcess, copy: Path, *, heads: bool, tiles: bool) -> None:
    """Replace the head, or everything else, by the older copy."""
    for path in copy.iterdir():
        if heads if path.name in HEAD_FILES else tiles:
            target = process.store / path.name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            shutil.copytree(path, target) if path.is_dir() else shutil.copy2(path, target)


@pytest.mark.parametrize(
    ("heads", "tiles", "says"),
    [(False, True, "older copy of the tile store"), (True, False, "older copy of the head store")],
    ids=["tiles", "head"],
)
def test_f20_one_of_both_put_back_is_refused_at_the_start(
    process: LogProcess, tmp_path: Path, *, heads: bool, tiles: bool, says: str
) -> None:
    writer, copy = Shipper(), tmp_path / "copy"
    live(process, writer)
    shutil.copytree(process.store, copy)
    live(process, writer)
    put_back(process, copy, heads=heads, tiles=tiles)
    assert process.spawn().wait(30) == 1
    assert says in process.last_words()


def test_f20_both_put_back_freeze_the_log_at_the_first_writer_that_knows_more(
    process: LogProcess, tmp_path: Path
) -> None:
    writer, copy = Shipper(), tmp_path / "copy"
    live(process, writer)
    shutil.copytree(process.store, copy)
    receipt = live(process, writer)
    put_back(process, copy, heads=True, tiles=True)
    process.start()
    with pytest.raises(LogFrozen, match="the log is frozen"):
        asyncio.run(ship(process, writer, 1, last=receipt.checkpoint))
    assert process.stop() == 0
