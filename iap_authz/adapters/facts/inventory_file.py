# SPDX-License-Identifier: Apache-2.0
"""Device inventories in a file, JSON or YAML, in one shape.

    {"revision": 7, "taken": "2026-01-31T09:00:00Z",
     "devices": [{"id": "laptop-1", "certificate_sha256": ["<64 lowercase hex digits>"], "managed": true,
                  "os": "macos", "os_version": "15.1", "posture_time": "2026-01-31T08:55:00Z", ...}]}

Invariant: what the file does not say is not known; nothing is filled in. A file is taken whole or not at all. How it is
read and how its faults are told is `listing`'s. Of large inventories JSON is the form: 100,000 devices load in seconds.
"""

import functools
from pathlib import Path

from iap_authz.adapters.facts.files import FileSource
from iap_authz.adapters.facts.inventory_fields import DEVICE_FIELDS, INVENTORY_FIELDS
from iap_authz.adapters.facts.inventory_yaml import Steps
from iap_authz.adapters.facts.listing import Report, parse_fields, read_listing
from iap_authz.facts.device import DeviceRecord, Inventory


def inventory_source(name: str, path: Path) -> FileSource[Inventory]:
    """The inventory in the file at `path`."""
    return FileSource(name, path, functools.partial(parse_inventory, name=name))


def parse_inventory(content: bytes, file: str, *, name: str = "inventory") -> Inventory:
    """Parse the whole file into the inventory called `name`. Raises Invalid with the faults in it."""
    root, report = read_listing(content, file)
    values = parse_fields(root, INVENTORY_FIELDS, (), report=report, required=("taken", "devices"))
    records = _parse_devices(values.get("devices", []), report)
    report.check()
    return Inventory(name=name, records=records, revision=values.get("revision"), taken=values["taken"])


def _parse_devices(devices: list[object], report: Report) -> tuple[DeviceRecord, ...]:
    records: list[DeviceRecord] = []
    by_id: dict[str, int] = {}
    by_certificate: dict[str, int] = {}
    for position, device in enumerate(devices):
        before = report.count()
        steps: Steps = ("devices", position)
        values = parse_fields(device, DEVICE_FIELDS, steps, report=report, required=("id",))
        if report.count() > before:
            continue
        record = DeviceRecord(**values)
        records.append(record)
        if (other := by_id.setdefault(record.id, position)) != position:
            report.add((*steps, "id"), f"got the id of devices[{other}], want one of its own")
        for certificate in record.certificate_sha256:
            if (other := by_certificate.setdefault(certificate, position)) != position:
                report.add(
                    (*steps, "certificate_sha256"), f"got a certificate of devices[{other}], want it on one device"
                )
    return tuple(records)
