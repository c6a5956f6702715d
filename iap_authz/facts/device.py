# SPDX-License-Identifier: Apache-2.0
"""Device facts: which device shows this certificate, and what the inventory knows of it.

Invariant: a field is set only if the inventory says so; what it does not say stays unset, which is not false. Ids and
hashes are compared byte for byte: no case folding, no trimming, no Unicode forms.

The link from a request to a device is the SHA-256 of its certificate's DER and nothing else. A certificate that is
reissued is a new binding, also with the same subject or the same key.

What is wrong outranks what is old, and what is old outranks what is missing: a stale inventory that says "revoked" is
believed, one that does not know a certificate is not.

    no certificate                         ABSENT
    bad certificate, outside its validity  INVALID  BAD_CERTIFICATE
    issued by none of our authorities      INVALID  UNTRUSTED_CERTIFICATE   where some are configured
    no inventory, or no authorities        ERROR    SOURCE_ERROR
    revoked or lost                        INVALID  DEVICE_REVOKED
    posture measured in the future         INVALID  POSTURE_FUTURE
    inventory taken in the future          ERROR    SOURCE_ERROR     its age cannot be known
    inventory too old                      STALE    SOURCE_STALE
    certificate not in the inventory       ABSENT   DEVICE_UNKNOWN   the hash is set
    posture too old                        STALE    SOURCE_STALE
    otherwise                              PRESENT                   without a posture time `age` is unset

Deliberately not done: whether the device's owner is who asks is a rule of the policy (`device.owner ==
identity.subject`); SPIFFE ids are no business of an inventory.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.errors import Invalid, InvalidCredential, SourceUnavailable, shown
from iap_authz.facts.certificate import ClientCertificate, check_certificate_time, parse_certificate
from iap_authz.facts.revision import check_revision
from iap_authz.model.reason import Reason

Vouch = Callable[[bytes, datetime], object]
"""Raises InvalidCredential for the DER of a leaf that nobody vouches for at this time, SourceUnavailable if unknown."""

FUTURE_SKEW: Final = timedelta(seconds=60)
"""How far another machine's clock may be ahead of ours before its times are taken for false."""

OPERATING_SYSTEMS: Final = ("macos", "windows", "linux", "ios", "android", "chromeos")
RISKS: Final = ("none", "low", "medium", "high")
"""The closed lists of `facts.proto`."""

_OS_VERSION = re.compile(r"(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,3})(?:\.([0-9]{1,6})(?:\.[0-9]{1,9})?)?)?", re.ASCII)
_OS_MAJOR_MAX: Final = 9_223_372_035
"""The largest major number whose key still fits a signed 64-bit integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """One device as an inventory knows it. None means that the inventory does not say."""

    id: str
    certificate_sha256: tuple[str, ...] = ()
    managed: bool | None = None
    owner: str | None = None
    os: str | None = None
    os_version: str | None = None
    disk_encrypted: bool | None = None
    screen_lock: bool | None = None
    firewall: bool | None = None
    risk: str | None = None
    enrolled: bool | None = None
    revoked: bool | None = None
    lost: bool | None = None
    posture_time: datetime | None = None
    tags: tuple[str, ...] | None = None
    labels: Mapping[str, str] | None = None
    model: str | None = None


_PLAIN_FIELDS: Final = (
    "id", "managed", "owner", "os", "os_version", "disk_encrypted", "screen_lock", "firewall", "risk", "enrolled",
    "revoked", "lost", "model",
)  # fmt: skip
"""Fields that a record and the fact share, name and type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A snapshot of all known devices. `taken` is when the inventory made it, by the inventory's own word.

    Raises Invalid where two devices share an id or a certificate.
    """

    name: str
    records: Sequence[DeviceRecord]
    revision: int | None
    taken: datetime
    _by_certificate: dict[str, DeviceRecord] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the index."""
        index: dict[str, DeviceRecord] = {}
        for record in self.records:
            for certificate in record.certificate_sha256:
                if index.setdefault(certificate, record) is not record:
                    raise Invalid.of_file(self.name, f"got certificate {shown(certificate)} on two devices, want one")
        if len({record.id for record in self.records}) != len(self.records):
            raise Invalid.of_file(self.name, "got one device id on two devices, want one")
        object.__setattr__(self, "_by_certificate", index)

    def find(self, certificate_sha256: str) -> DeviceRecord | None:
        """The device that holds this certificate (lowercase hex of the DER's SHA-256)."""
        return self._by_certificate.get(certificate_sha256)


def check_succession(inventory: Inventory, previous: Inventory | None) -> None:
    """Raise Invalid if `inventory` is older than the one in use: a snapshot put back would revive revoked devices.

    Revisions decide where both have one; a revision, once there, must stay. Otherwise the times taken decide.
    """
    if previous is None:
        return
    check_revision(inventory.name, inventory.revision, previous.revision)
    if previous.revision is None and inventory.taken < previous.taken:
        message = f"got one taken at {inventory.taken.isoformat()}, want at least {previous.taken.isoformat()}"
        raise Invalid.of_file(inventory.name, message)


def os_version_key(text: str) -> int | None:
    """`15.1` -> 15001000000: major*10^9 + minor*10^6 + patch. None for anything else.

    One to four parts of ASCII digits (`22.04` is 22 and 4): the minor part has at most three, the patch six, because
    Windows says `10.0.22631`. A fourth part is read and left out, so a key never says more than the version does.
    """
    match = _OS_VERSION.fullmatch(text)
    if match is None:
        return None
    major, minor, patch = (int(part) if part else 0 for part in match.groups())
    return major * 10**9 + minor * 10**6 + patch if major <= _OS_MAJOR_MAX else None


def establish_device(
    certificate: str,
    inventory: Inventory | None,
    now: datetime,
    *,
    max_posture_age: timedelta,
    max_inventory_age: timedelta,
    vouch: Vouch | None = None,
) -> facts_pb2.Device:
    """The device facts of a request that came with `certificate` (URL-encoded PEM; empty: none). Never raises.

    Without `vouch` the chain was Envoy's to check, and a listener that accepts untrusted certificates is believed.
    """
    if not certificate:
        return facts_pb2.Device(state=facts_pb2.ABSENT)
    try:
        parsed = parse_certificate(certificate)
    except InvalidCredential:
        return facts_pb2.Device(state=facts_pb2.INVALID, problem=reason_pb2.REASON_BAD_CERTIFICATE)
    record = inventory.find(parsed.sha256) if inventory is not None else None
    device = _device(parsed, inventory, record=record, now=now)
    try:
        check_certificate_time(parsed, now)
        if vouch is not None:
            vouch(parsed.der, now)
    except InvalidCredential as error:
        device.state, device.problem = facts_pb2.INVALID, Reason(error.reason).value
        return device
    except SourceUnavailable:
        inventory = None
    if inventory is None:
        device.state, device.problem = facts_pb2.ERROR, reason_pb2.REASON_SOURCE_ERROR
        return device
    device.state, device.problem = _judge(
        record, inventory, now, max_posture_age=max_posture_age, max_inventory_age=max_inventory_age
    )
    return device


def _judge(
    record: DeviceRecord | None,
    inventory: Inventory,
    now: datetime,
    *,
    max_posture_age: timedelta,
    max_inventory_age: timedelta,
) -> tuple[facts_pb2.State, reason_pb2.Reason]:
    """The part of the table in the module's head that is about the inventory."""
    posture_time = record.posture_time if record is not None else None
    posture_age = now - posture_time if posture_time is not None else timedelta()
    inventory_age = now - inventory.taken
    table = (
        (record is not None and (record.revoked or record.lost), facts_pb2.INVALID, reason_pb2.REASON_DEVICE_REVOKED),
        (-posture_age > FUTURE_SKEW, facts_pb2.INVALID, reason_pb2.REASON_POSTURE_FUTURE),
        (-inventory_age > FUTURE_SKEW, facts_pb2.ERROR, reason_pb2.REASON_SOURCE_ERROR),
        (inventory_age > max_inventory_age, facts_pb2.STALE, reason_pb2.REASON_SOURCE_STALE),
        (record is None, facts_pb2.ABSENT, reason_pb2.REASON_DEVICE_UNKNOWN),
        (posture_age > max_posture_age, facts_pb2.STALE, reason_pb2.REASON_SOURCE_STALE),
        (True, facts_pb2.PRESENT, reason_pb2.REASON_UNSPECIFIED),
    )
    return next((state, problem) for holds, state, problem in table if holds)


def _device(
    certificate: ClientCertificate, inventory: Inventory | None, *, record: DeviceRecord | None, now: datetime
) -> facts_pb2.Device:
    """What is known, whatever it is worth: a record of a refusal shows it too."""
    device = facts_pb2.Device(
        certificate_sha256=certificate.sha256,
        certificate_serial=certificate.serial,
        certificate_not_after=certificate.not_after,
    )
    if inventory is not None:
        device.source = inventory.name
        if inventory.revision is not None:
            device.inventory_revision = inventory.revision
    if record is None:
        return device
    for name in _PLAIN_FIELDS:
        value = getattr(record, name)
        if value is not None:
            setattr(device, name, value)
    key = os_version_key(record.os_version) if record.os_version is not None else None
    if key is not None:
        device.os_version_key = key
    if record.posture_time is not None:
        device.posture_time.FromDatetime(record.posture_time)
        device.age.FromTimedelta(max(now - record.posture_time, timedelta()))
    _set_collections(device, record)
    return device


def _set_collections(device: facts_pb2.Device, record: DeviceRecord) -> None:
    """Tags and labels: none known is not the same as known to be none."""
    if record.tags is not None:
        device.tags.extend(record.tags)
    if record.labels is not None:
        device.labels.update(record.labels)
    device.empty.extend(
        name for name in ("tags", "labels") if getattr(record, name) is not None and not getattr(record, name)
    )
