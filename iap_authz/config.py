# SPDX-License-Identifier: Apache-2.0
"""The configuration of a sidecar: one YAML file, read once into a frozen tree. The field docstrings are the manual.

Relative paths are relative to the folder of the file. All faults are reported at once, each with line and column.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from iap_authz.config_assertion import AssertionConfig, take_assertion
from iap_authz.config_certificate import ClientCertificateConfig, take_client_certificate
from iap_authz.config_credentials import ApiKeysConfig, RevocationsConfig
from iap_authz.config_identity import IssuerConfig, TrustDomainConfig, take_identity
from iap_authz.config_listen import take_listen
from iap_authz.config_seal import SealConfig, take_seal
from iap_authz.errors import ConfigInvalid, Malformed, shown
from iap_authz.facts.credential import TokenSource
from iap_authz.model.document import Section, parse_configuration, take_origin
from iap_authz.tlog.cosign import CosignerKey, count_witnesses
from iap_authz.tlog.note import VerifierKey

_MIB, _GIB, _TIB = 1024**2, 1024**3, 1024**4
_ZERO, _MILLISECOND, _SECOND = timedelta(0), timedelta(milliseconds=1), timedelta(seconds=1)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_PORT_MAX = 65_535
_LOG_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\]):(?P<port>[0-9]{1,5})", re.ASCII)
_WITNESSES_MAX = 32
_LOG_JOURNAL_MIN_BYTES = 2 * _MIB
"""Two segments: the one that is written is never trimmed, so a journal of one could not come back from full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """`device`: the inventory that client certificates are looked up in."""

    inventory_file: Path
    """JSON or YAML. Replaced live."""
    authorities_file: Path | None
    """PEM of the certificates that sign device certificates, intermediates included. Live. Default: Envoy's word."""
    max_inventory_age: timedelta
    """Older inventories make device facts STALE. Default 1d."""
    max_posture_age: timedelta
    """Older posture makes a device's facts STALE. Default 1d."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationConfig:
    """`location`: where requests come from."""

    client_address: str
    """`envoy`: what Envoy found out (x-envoy-external-address, else the peer). `peer`: the TCP peer. Default envoy."""
    networks_file: Path | None
    """Named networks. Replaced live."""
    geography_file: Path | None
    """A MaxMind-format database with countries. Replaced live."""
    max_build_age: timedelta
    """Older databases make location facts STALE. Default 45d."""
    country_field: str
    """`country` (where the address is used) or `registered_country`. Default country."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalConfig:
    """`journal`: the writer's log on this machine's disk."""

    directory: Path
    """One folder per worker, on a local disk; made if missing."""
    bound_bytes: int
    """Most that the folder may hold. Full means 503 until there is room. Default 1 GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLogConfig:
    """`log`: the audit log that the journal is shipped to."""

    address: str
    """`unix:/run/iap/log.sock` or `HOST:PORT`. Not encrypted: a socket, loopback, or a network that encrypts."""
    verifier_key: VerifierKey
    """The log's public key, as `iap-authz keys show` prints it. Its name is `log_origin`."""
    enrolment_token_file: Path
    """The token that lets this writer register. Read at the start."""
    on_log_fault: str
    """`continue`: faults of the log are alarms. `refuse`: while there is one, every answer is 503. Default continue."""
    cosign_deadline: timedelta
    """How long a receipt, or a cosigned checkpoint, may be missing before that is a fault. Default 60s."""
    witnesses: tuple[CosignerKey, ...]
    """Public keys of the witnesses whose cosignatures count."""
    quorum: int
    """Cosignatures without which nothing leaves the journal. 0 trusts the log alone, which is unsafe. Default 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarConfig:
    """The whole file."""

    listen: str
    """`unix:/run/iap/authz-0.sock` (mode 0660) or `127.0.0.1:PORT`. TCP on loopback only: a check proves no client."""
    log_origin: str
    """Origin of the audit log that this writer belongs to; part of every signature. No spaces, no plus sign."""
    workload: str
    """Identity of this workload, for the WriterStarted record."""
    instance: str
    """Name of the pod or host, for the WriterStarted record."""
    deadline: timedelta
    """Time for one check, below Envoy's 200ms. Default 150ms."""
    max_in_flight: int
    """Checks at once; more are refused and counted. Default 1024."""
    refresh_interval: timedelta
    """How often files are looked at for changes. Default 1s."""
    journal: JournalConfig
    log: AuditLogConfig | None
    seal: SealConfig | None
    """What seals personal data. Or `none`: records say openly what they say of people, and it can never be erased."""
    policies: tuple[Path, ...]
    """Policy files; together one bundle. Replaced live."""
    issuers: tuple[IssuerConfig, ...]
    token_sources: tuple[TokenSource, ...]
    """Where tokens may stand. All places are looked at; a token in two of them is refused. Default: authorization."""
    trust_domains: tuple[TrustDomainConfig, ...]
    revocations: RevocationsConfig | None
    """Credentials that must not be believed any more. Without it none is revoked."""
    api_keys: ApiKeysConfig | None
    """Keys of machines. Without it none is taken, and their header is one like any other."""
    client_certificate: ClientCertificateConfig | None
    """TLS proxies in front of Envoy. Without it the client's certificate is that of the handshake with Envoy."""
    device: DeviceConfig | None
    location: LocationConfig
    assertion: AssertionConfig | None


def parse_config(content: bytes, path: Path) -> SidecarConfig:
    """Parse the file at `path` with this `content`. Raises ConfigInvalid with every fault."""
    root, faults = parse_configuration(content, str(path), kind="Sidecar")
    log_origin, identity = take_origin(root, "log_origin"), take_identity(root, path.parent)
    config = SidecarConfig(
        listen=take_listen(root, path.parent),
        log_origin=log_origin,
        workload=root.take_text("workload", "unnamed"),
        instance=root.take_text("instance", "unnamed"),
        deadline=root.take_duration("deadline", timedelta(milliseconds=150), least=10 * _MILLISECOND, most=_MINUTE),
        max_in_flight=root.take_integer("max_in_flight", 1024, least=1, most=100_000),
        refresh_interval=root.take_duration("refresh_interval", _SECOND, least=100 * _MILLISECOND, most=_MINUTE),
        journal=_take_journal(root, path.parent),
        log=_take_log(root, path.parent, log_origin=log_origin),
        seal=take_seal(root),
        policies=_take_paths(root, "policies", path.parent),
        issuers=identity.issuers,
        token_sources=identity.token_sources,
        trust_domains=identity.trust_domains,
        revocations=identity.revocations,
        api_keys=identity.api_keys,
        client_certificate=take_client_certificate(root, [domain.name for domain in identity.trust_domains]),
        device=_take_device(root, path.parent),
        location=_take_location(root, path.parent),
        assertion=take_assertion(root, path.parent),
    )
    for issuer in config.issuers:
        if issuer.max_stale < config.refresh_interval:
            root.fault("refresh_interval", f"got more than max_stale of issuer {shown(issuer.name)}, want at most that")
    asserting = config.assertion.issuer if config.assertion is not None else ""
    if asserting and asserting in {issuer.issuer for issuer in config.issuers}:
        root.fault("assertion", "got the issuer of an identity provider, want a name of its own")
    if config.revocations is not None and config.revocations.max_stale < config.refresh_interval:
        root.fault("refresh_interval", "got more than max_stale of the revocations, want at most that")
    if config.log is not None and config.journal.bound_bytes < _LOG_JOURNAL_MIN_BYTES:
        got, want = config.journal.bound_bytes, _LOG_JOURNAL_MIN_BYTES
        root.fault("journal", f"got a bound of {got} bytes beside a log, want at least {want}")
    root.finish()
    faults.check(ConfigInvalid)
    return config


def load_config(path: Path) -> SidecarConfig:
    """Read and parse `path`. Raises ConfigInvalid, also where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid.of_file(path, f"cannot be read: {error.strerror}") from None
    return parse_config(content, path.absolute())


def _take_paths(section: Section, key: str, folder: Path) -> tuple[Path, ...]:
    texts = section.take_texts(key)
    if section.has(key) and not texts:
        section.fault(key, "got an empty list, want at least one file")
    return tuple(folder / text for text in texts)


def _take_path(section: Section, key: str, folder: Path) -> Path:
    return folder / section.take_text(key)


def _take_optional_path(section: Section, key: str, folder: Path) -> Path | None:
    text = section.take_text(key, "")
    return folder / text if text else None


def _take_journal(root: Section, folder: Path) -> JournalConfig:
    section = root.take_section("journal", required=True)
    if section is None:
        return JournalConfig(directory=folder, bound_bytes=_GIB)
    journal = JournalConfig(
        directory=_take_path(section, "directory", folder),
        bound_bytes=section.take_size("bound", _GIB, least=_MIB, most=_TIB),
    )
    section.finish()
    return journal


def _take_log(root: Section, folder: Path, *, log_origin: str) -> AuditLogConfig | None:
    """The section, None where there is none; also where its key is faulty, which ends the parsing later."""
    section = root.take_section("log")
    if section is None:
        return None
    address, token_file = _take_log_address(section, folder), _take_path(section, "enrolment_token_file", folder)
    verifier = _take_verifier(section, log_origin)
    on_log_fault = section.take_text("on_log_fault", "continue", choices=("continue", "refuse"))
    deadline = section.take_duration("cosign_deadline", _MINUTE, least=_SECOND, most=_DAY)
    witnesses = _take_witnesses(section)
    quorum = section.take_integer("quorum", 0, least=0, most=_WITNESSES_MAX)
    if quorum > count_witnesses(witnesses):
        section.fault("quorum", f"got {quorum}, want at most {count_witnesses(witnesses)}: the different witnesses")
    section.finish()
    if verifier is None:
        return None
    return AuditLogConfig(
        address=address,
        verifier_key=verifier,
        enrolment_token_file=token_file,
        on_log_fault=on_log_fault,
        cosign_deadline=deadline,
        witnesses=witnesses,
        quorum=quorum,
    )


def _take_verifier(section: Section, log_origin: str) -> VerifierKey | None:
    text = section.take_text("verifier_key")
    if not text:
        return None
    try:
        key = VerifierKey.parse(text)
    except Malformed as error:
        section.fault("verifier_key", str(error))
        return None
    if key.name != log_origin:
        section.fault(
            "verifier_key", f"got a key of {shown(key.name)}, want one of {shown(log_origin)}, the log_origin"
        )
    return key


def _take_witnesses(section: Section) -> tuple[CosignerKey, ...]:
    keys = []
    for text in section.take_texts("witnesses", ()):
        try:
            keys.append(CosignerKey.parse(text))
        except Malformed as error:
            section.fault("witnesses", str(error))
    return tuple(keys)


def _take_log_address(section: Section, folder: Path) -> str:
    text = section.take_text("address")
    if text.startswith("unix:"):
        return f"unix:{folder / text.removeprefix('unix:')}"
    match = _LOG_HOST.fullmatch(text)
    if text and (match is None or not 1 <= int(match["port"]) <= _PORT_MAX):
        section.fault("address", f"got {shown(text)}, want unix:PATH or HOST:PORT")
    return text


def _take_device(root: Section, folder: Path) -> DeviceConfig | None:
    section = root.take_section("device")
    if section is None:
        return None
    device = DeviceConfig(
        inventory_file=_take_path(section, "inventory_file", folder),
        authorities_file=_take_optional_path(section, "authorities_file", folder),
        max_inventory_age=section.take_duration("max_inventory_age", _DAY, least=_SECOND, most=365 * _DAY),
        max_posture_age=section.take_duration("max_posture_age", _DAY, least=_SECOND, most=365 * _DAY),
    )
    section.finish()
    return device


def _take_location(root: Section, folder: Path) -> LocationConfig:
    section = root.take_section("location")
    if section is None:
        return LocationConfig(
            client_address="envoy",
            networks_file=None,
            geography_file=None,
            max_build_age=45 * _DAY,
            country_field="country",
        )
    location = LocationConfig(
        client_address=section.take_text("client_address", "envoy", choices=("envoy", "peer")),
        networks_file=_take_optional_path(section, "networks_file", folder),
        geography_file=_take_optional_path(section, "geography_file", folder),
        max_build_age=section.take_duration("max_build_age", 45 * _DAY, least=_DAY, most=3650 * _DAY),
        country_field=section.take_text("country_field", "country", choices=("country", "registered_country")),
    )
    section.finish()
    return location
