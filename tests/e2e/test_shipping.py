# SPDX-License-Identifier: Apache-2.0
"""A sidecar and a log, both as they are in production, over their sockets: records arrive, and space returns."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.adapters.journal.reading import writer_directories
from iap_authz.client.channel import LogChannel
from iap_authz.config import load_config
from iap_authz.model.ids import WriterId
from iap_authz.records.record import parse_record
from iap_authz.wiring import SidecarProcess
from tests.fakes.checks import check_request
from tests.fakes.journal import ORIGIN
from tests.fakes.log_process import TOKEN, LogProcess
from tests.fakes.timers import until

CHECK = "/envoy.service.auth.v3.Authorization/Check"
POLICY = """\
kind: Policy
name: p
routes:
- {name: kept, match: {paths: ["/kept"]}, allow: [{id: a, when: 'true'}], durability: log}
- {name: quick, match: {paths: ["/quick"]}, allow: [{id: a, when: 'true'}]}
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogProcess]:
    process = LogProcess(tmp_path / "log")
    process.start()
    yield process
    process.stop()


def configure(folder: Path, log: LogProcess) -> Path:
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "token").write_text(TOKEN)
    (folder / "sidecar.yaml").write_text(
        "kind: Sidecar\nlisten: unix:authz.sock\njournal: {directory: journal}\npolicies: [policy.yaml]\nseal: none\n"
        f"log_origin: {ORIGIN}\ndeadline: 10s\n"
        f"log: {{address: '{log.address}', verifier_key: {log.key.render()}, enrolment_token_file: token}}\n"
    )
    return folder / "sidecar.yaml"


@asynccontextmanager
async def sidecar(config: Path) -> AsyncIterator[SidecarProcess]:
    """A sidecar that answers, from its start to its orderly end."""
    process = SidecarProcess(load_config(config))
    answers = asyncio.Event()
    serving = asyncio.create_task(process.serve(lambda _: answers.set()))
    await asyncio.wait([serving, asyncio.create_task(answers.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield process
    finally:
        process.stop("sigterm")
        await serving


async def ask(folder: Path, path: str, *, seconds: float = 20) -> int:
    """The gRPC status code of the check of a request for `path`."""
    async with grpc.aio.insecure_channel(f"unix:{folder}/authz.sock") as channel:
        data: bytes = await channel.unary_unary(CHECK)(check_request(path=path).SerializeToString(), timeout=seconds)
    return int(external_auth_pb2.CheckResponse.FromString(data).status.code)


async def records(log: LogProcess, writer: WriterId) -> list[record_pb2.Record]:
    """A writer's records in the log, in its order."""
    async with LogChannel(log.address) as channel:
        request = log_pb2.GetEntriesRequest(first=0, count=1_000)
        found = [parse_record(entry.record) async for entry in channel.get_entries(request)]
    return [record for record in found if record.writer == writer]


def test_what_a_sidecar_records_is_in_the_log_to_its_last_record(tmp_path: Path, log: LogProcess) -> None:
    async def test() -> None:
        config = configure(tmp_path, log)
        async with sidecar(config):
            assert await ask(tmp_path, "/kept") == 0
            (folder,) = writer_directories(tmp_path / "journal")
            first = WriterId(bytes.fromhex(folder.name))
            assert any(record.HasField("decision") for record in await records(log, first))
        assert (await records(log, first))[-1].HasField("writer_stopped")
        async with sidecar(config):
            await until(lambda: not folder.exists())
            (folder_now,) = writer_directories(tmp_path / "journal")
            second = WriterId(bytes.fromhex(folder_now.name))
            assert await ask(tmp_path, "/kept") == 0
            started = (await records(log, second))[0].writer_started
            assert started.predecessor == first
            assert started.log_checkpoint.startswith(ORIGIN.encode())

    asyncio.run(test())


def test_a_log_that_is_gone_holds_up_only_what_asks_for_it(tmp_path: Path, log: LogProcess) -> None:
    async def test() -> None:
        config = configure(tmp_path, log)
        config.write_text(config.read_text().replace("deadline: 10s", "deadline: 500ms"))
        async with sidecar(config):
            log.kill()
            assert await ask(tmp_path, "/quick") == 0
            assert await ask(tmp_path, "/kept") == grpc.StatusCode.UNAVAILABLE.value[0]
            log.start()
            codes = [await ask(tmp_path, "/kept")]
            while codes[-1] != 0:
                codes.append(await ask(tmp_path, "/kept"))
            assert len(codes) < 60

    asyncio.run(test())
