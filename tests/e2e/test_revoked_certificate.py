# SPDX-License-Identifier: Apache-2.0
"""A revoked certificate through a real Envoy: a TLS session that is older than the list is no way around it."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.demo.client import TIMEOUT_SECONDS, Reply, parse_reply
from iap_authz.demo.files import HOST
from iap_authz.demo.live import Live
from iap_authz.demo.world import ADDRESSES
from iap_authz.model.reason import Reason
from tests.fakes.certificates import fingerprint_of
from tests.fakes.edge import ENGINEER, NOBODY, bodies, records_of, start_edge, wait_for

BOUND_SECONDS = 5.0
"""From the write to the first refusal, with the default `refresh_interval`."""

LAPTOP = "laptop"
"""The device of `ENGINEER`."""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """The edge, with an empty list of revocations."""
    with start_edge(tmp_path) as live:
        write_list(tmp_path, 1)
        config = tmp_path / "sidecar.yaml"
        config.write_text(config.read_text().replace("identity:\n", "identity:\n  revocations: {file: revoked.json}\n"))
        assert live.sidecar is not None
        live.sidecar.stop()
        with live.run_sidecar():
            wait_for(live, ENGINEER, 200)
            yield live


def write_list(folder: Path, revision: int, *entries: dict[str, str]) -> None:
    new = folder / "revoked.new"
    new.write_text(json.dumps({"revision": revision, "revoked": entries}))
    new.replace(folder / "revoked.json")


def certificate_of(live: Live, device: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(live.world.device_file(device).read_bytes())


class Laptop:
    """A client that resumes its TLS session: Python's own TLS, one request a connection."""

    def __init__(self, live: Live, version: ssl.TLSVersion) -> None:
        self._live = live
        self._context = ssl.create_default_context(cafile=str(live.world.authority_file))
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(live.world.device_file(LAPTOP))
        self._session: ssl.SSLSession | None = None

    def connect(self) -> ssl.SSLSocket:
        """A connection, in the session of the last one if there was one."""
        assert self._live.client is not None
        plain = socket.create_connection(("127.0.0.1", self._live.client.port), TIMEOUT_SECONDS)
        plain.sendall(f"PROXY TCP4 {ADDRESSES[ENGINEER.place]} 127.0.0.1 40000 443\r\n".encode())
        return self._context.wrap_socket(plain, server_hostname=HOST, session=self._session)

    def ask(self, connection: ssl.SSLSocket) -> Reply:
        """One request on `connection`, whose session is kept."""
        connection.sendall(self._live.render(ENGINEER).replace(b"connection: close\r\n", b""))
        received = b""
        while b"\r\n\r\n" not in received or not _is_whole(received):
            data = connection.recv(65_536)
            assert data, "the connection ended early"
            received += data
        self._session = connection.session  # in TLS 1.3 the ticket comes with the answer
        return parse_reply(received)

    def ask_anew(self) -> tuple[Reply, bool]:
        """One request on a connection of its own, and whether that resumed a session."""
        with self.connect() as connection:
            reply = self.ask(connection)
            return reply, bool(connection.session_reused)


def _is_whole(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS-1.2", "TLS-1.3"])
@pytest.mark.parametrize("by", ["hash", "serial"])
def test_a_resumed_session_and_an_open_connection_are_refused(live: Live, version: ssl.TLSVersion, by: str) -> None:
    laptop, shown = Laptop(live, version), certificate_of(live, LAPTOP)
    number = shown.serial_number
    serial = number.to_bytes((number.bit_length() + 7) // 8, "big").hex()
    entries = {
        "hash": {"certificate_sha256": fingerprint_of(shown)},
        "serial": {"issuer": shown.issuer.rfc4514_string(), "certificate_serial": serial},
    }
    assert [laptop.ask_anew()[1], laptop.ask_anew()[1]] == [False, True], "Envoy resumes sessions"
    with laptop.connect() as open_before:
        assert laptop.ask(open_before).status == 200
        written = time.monotonic()
        write_list(live.world.folder, 2, entries[by])
        wait_for(live, ENGINEER, 403)
        seconds = time.monotonic() - written
        print(f"seconds from write to refusal: {seconds:.2f}")  # noqa: T201 -- shown by pytest -s
        assert seconds < BOUND_SECONDS
        assert laptop.ask(open_before).status == 403, "the same connection"
    reply, resumed = laptop.ask_anew()
    assert (reply.status, resumed) == (403, True)
    refused = bodies(records_of(live), "decision")[-1]
    assert (refused.decision.reason, refused.decision.device.state) == (Reason.CERTIFICATE_REVOKED, facts_pb2.INVALID)
    assert refused.open.decision.facts.device.certificate_serial == serial


def test_other_devices_and_who_shows_none_are_not_refused(live: Live) -> None:
    write_list(live.world.folder, 2, {"certificate_sha256": fingerprint_of(certificate_of(live, "byod"))})
    written = time.monotonic()
    byod = replace(ENGINEER, target="/public/x", device="byod")
    wait_for(live, byod, 403)
    assert time.monotonic() - written < BOUND_SECONDS
    assert live.ask(ENGINEER).reply.status == 200
    assert live.ask(NOBODY).reply.status == 401
