# SPDX-License-Identifier: Apache-2.0
"""`make_world`: a folder with everything that a deployment has, made on the spot.

    FOLDER/  0700
      sidecar.yaml policy.yaml inventory.yaml networks.yaml    the operator's files (files.py)
      jwks.json jwks-partners.json                             the two identity providers' keys
      places.mmdb                                              documentation addresses, and countries for them
      envoy.yaml                                               the bootstrap, by the same code as `envoy render`
      tls/     ca.crt  server.crt  server.key  <device>.pem
      tokens/  <who>.jwt                                       good and forged ones
      journal/ logs/
      log.yaml ...                                             an audit log (log_world.py), where there is one

Invariant: private keys of providers and of the authority never touch the disk; what does is in the folder and goes
with it. Sockets live in a short folder of their own, because their paths are limited to 107 bytes.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from iap_authz.bootstrap.render import render_bootstrap
from iap_authz.bootstrap.settings import EdgeSettings, HostSettings, TlsSettings
from iap_authz.demo.credentials import Authority, TokenKey, render_confused_token, render_jwks, render_token
from iap_authz.demo.disk import write_private
from iap_authz.demo.files import (
    HOST,
    ISSUER,
    NETWORKS,
    POLICY,
    SECOND_ISSUER,
    DeviceEntry,
    render_inventory,
    render_shipping,
    render_sidecar,
)
from iap_authz.demo.geography import Place, write_demo_database
from iap_authz.demo.log_world import Logs

TOKEN_SECONDS = 8 * 3600
"""How long a good token lasts: a working day, for who leaves the demonstration up."""

PLACES: Mapping[str, Place] = {
    "192.0.2.0/24": Place(country="DE", continent="EU", city="Berlin", latitude=52.52, longitude=13.405),
    "198.51.100.0/24": Place(country="FR", continent="EU", city="Lyon", latitude=45.764, longitude=4.8357),
    "203.0.113.0/24": Place(country="AQ", continent="AN", city="McMurdo Station", latitude=-77.85, longitude=166.67),
    "2001:db8::/32": Place(country="NL", continent="EU", city="Delft", latitude=52.0116, longitude=4.3571),
}
"""Addresses that are set aside for documentation (RFC 5737, RFC 3849), in places of our choice."""

ADDRESSES: Mapping[str, str] = {
    "Berlin": "192.0.2.10",
    "Lyon": "198.51.100.20",
    "Antarctica": "203.0.113.30",
    "Delft": "2001:db8:1::7",
    "nowhere": "100.64.0.1",
}
"""Where the clients of the demonstration pretend to be. No database knows the last one (RFC 6598)."""

DEVICES: Mapping[str, DeviceEntry] = {
    "laptop": DeviceEntry(name="laptop", certificate_sha256="", managed=True),
    "byod": DeviceEntry(name="byod", certificate_sha256="", managed=False),
    "lost-laptop": DeviceEntry(name="lost-laptop", certificate_sha256="", managed=True, lost=True),
}
"""The inventory, before the certificates are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where everything is."""

    folder: Path
    sockets: Path
    tokens: Mapping[str, str]
    logs: Logs | None

    @property
    def sidecar_socket(self) -> Path:
        """Where the sidecar listens."""
        return self.sockets / "authz.sock"

    @property
    def admin_socket(self) -> Path:
        """Where Envoy's admin interface listens."""
        return self.sockets / "admin.sock"

    @property
    def authority_file(self) -> Path:
        """The certificate of the authority that signed all others."""
        return self.folder / "tls" / "ca.crt"

    @property
    def journal(self) -> Path:
        """The folder of all writers."""
        return self.folder / "journal"

    def device_file(self, device: str) -> Path:
        """Certificate and key of a device."""
        return self.folder / "tls" / f"{device}.pem"


def make_world(
    folder: Path, sockets: Path, *, upstream_port: int, journal_bound: str = "1GiB", logs: Logs | None = None
) -> World:
    """Make everything in `folder`, which is there and holds at most `logs`. Raises OSError.

    The sidecar ships to the honest one of `logs`; without them it keeps its journal to itself.
    """
    for path in (folder / "tls", folder / "tokens", folder / "logs"):
        path.mkdir(mode=0o700)
    world = World(folder=folder, sockets=sockets, tokens=_make_tokens(folder), logs=logs)
    _make_certificates(world)
    write_demo_database(folder / "places.mmdb", PLACES)
    write_private(folder / "policy.yaml", POLICY)
    write_private(folder / "networks.yaml", NETWORKS)
    sidecar = render_sidecar(
        listen=f"unix:{world.sidecar_socket}",
        journal_bound=journal_bound,
        shipping=render_shipping(address=logs.honest.address, verifier_key=logs.honest.verifier.render())
        if logs is not None
        else "",
        vault_key=logs.vault_key.render() if logs is not None else "",
    )
    write_private(folder / "sidecar.yaml", sidecar)
    write_private(folder / "envoy.yaml", render_bootstrap(_edge_settings(world, upstream_port), "edge"))
    return world


def _make_tokens(folder: Path) -> Mapping[str, str]:
    staff, attacker, partners = TokenKey.new_ec("staff-1"), TokenKey.new_ec("staff-1"), TokenKey.new_rsa("partners-1")
    write_private(folder / "jwks.json", render_jwks(staff))
    write_private(folder / "jwks-partners.json", render_jwks(partners))
    alice = _claims("alice", groups=["eng"], team="platform")
    carol = _claims("carol", groups=["eng", "admin"], team="operations")
    partner = {**_claims("paula", groups=["eng"], team="partners"), "iss": SECOND_ISSUER}
    now = int(time.time())
    tokens = {
        "alice": render_token(alice, staff),
        "bob": render_token(_claims("bob", groups=["sales"], team="sales"), staff),
        "carol": render_token(carol, staff),
        "paula": render_token(partner, partners),
        "alice-yesterday": render_token({**alice, "iat": now - 90_000, "exp": now - 3_600}, staff),
        "alice-two-hours-ago": render_token({**alice, "auth_time": now - 7_200}, staff),
        "alice-with-a-word-for-a-number": render_token({**alice, "clearance": "three"}, staff),
        "forged-signature": render_token(carol, attacker),
        "forged-algorithm": render_confused_token({**partner, "groups": ["eng", "admin"]}, partners),
    }
    for name, token in tokens.items():
        write_private(folder / "tokens" / f"{name}.jwt", token)
    return tokens


def _claims(subject: str, *, groups: list[str], team: str) -> dict[str, object]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": f"https://{HOST}",
        "sub": subject,
        "groups": groups,
        "team": team,
        "iat": now - 5,
        "exp": now + TOKEN_SECONDS,
        "auth_time": now - 60,
    }


def _make_certificates(world: World) -> None:
    authority = Authority("demo authority")
    server = authority.certify_server(HOST)
    write_private(world.authority_file, authority.certificate_pem)
    write_private(world.folder / "tls" / "server.crt", server.certificate_pem)
    write_private(world.folder / "tls" / "server.key", server.key_pem)
    entries = []
    for name, device in DEVICES.items():
        certified = authority.certify_device(name)
        write_private(world.device_file(name), certified.certificate_pem + certified.key_pem)
        entries.append(
            DeviceEntry(name=name, certificate_sha256=certified.sha256, managed=device.managed, lost=device.lost)
        )
    write_private(world.folder / "inventory.yaml", render_inventory(entries, datetime.now(UTC)))


def _edge_settings(world: World, upstream_port: int) -> EdgeSettings:
    """Envoy as it stands behind a load balancer that says where its clients come from."""
    tls = world.folder / "tls"
    return EdgeSettings(
        listener_port=0,
        tls=TlsSettings(
            certificate_chain=str(tls / "server.crt"),
            private_key=str(tls / "server.key"),
            client_ca=str(world.authority_file),
        ),
        proxy_protocol=True,
        authz_sockets=(str(world.sidecar_socket),),
        upstream=f"127.0.0.1:{upstream_port}",
        hosts=(HostSettings(name="intranet", domains=(HOST,), policy="intranet"),),
        admin_socket=str(world.admin_socket),
        readiness_port=None,
    )
