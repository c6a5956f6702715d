# SPDX-License-Identifier: Apache-2.0
"""The operator's files of the demonstration, as text: what one would write by hand for a deployment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

HOST = "intranet.example.com"
ISSUER = "https://login.example.com/"
SECOND_ISSUER = "https://partners.example.com/"
LOG_ORIGIN = "demo.example.com/audit"
ENROLMENT_TOKEN_FILE = "enrolment.token"  # noqa: S105 -- the name of a file, not what it holds

POLICY = f"""\
# SPDX-License-Identifier: Apache-2.0
kind: Policy
name: intranet
levels:
  engineer: '"eng" in identity.groups'
  trusted_device: device.managed && device.disk_encrypted && device.age < duration("24h")
  own: identity.subject == request.captures["person"]
  eu: location.country in ["DE", "FR", "NL"]
routes:
- name: api
  match: {{hosts: [{HOST}], paths: ["/api/**"]}}
  deny:
  - {{id: embargo, when: 'has(location.country) && location.country == "AQ"'}}
  challenge:
  - {{id: enrol, when: 'device.state == ABSENT', with: {{redirect: "https://enrol.example.com/"}}}}
  allow:
  - {{id: engineers, when: level.engineer && level.trusted_device && level.eu}}
  shadow:                                   # evaluated and recorded, never enforced
  - {{id: newer-system, allow: 'device.os_version_key >= 26000000000'}}
  on_allow: {{set_headers: {{x-team: 'identity.claims["team"]'}}}}
- name: admin
  match: {{hosts: [{HOST}], paths: ["/admin/**"]}}
  allow:
  - {{id: admins, when: '"admin" in identity.groups && level.trusted_device && level.eu'}}
- name: payroll
  match: {{hosts: [{HOST}], methods: [GET], paths: ["/payroll/{{person}}"]}}
  challenge:
  - id: step-up
    when: 'has(identity.auth_time) && now - identity.auth_time > duration("1h")'
    with: {{acr: mfa, max_age: 3600}}
  allow:
  - {{id: own-slip-in-the-office, when: 'level.own && "office" in location.networks'}}
- name: public
  match: {{hosts: [{HOST}], paths: ["/public/**"]}}
  allow:
  - {{id: anybody-somewhere, when: has(location.country)}}
- name: broken
  match: {{hosts: [{HOST}], paths: [/broken]}}
  allow:                                    # the claim is a word where the rule wants a number
  - {{id: clearance, when: 'int(identity.claims["clearance"]) >= 3'}}
"""

NETWORKS = """\
# SPDX-License-Identifier: Apache-2.0
networks:
  office: ["192.0.2.0/26", "2001:db8:1::/48"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEntry:
    """What the inventory says of one device."""

    name: str
    certificate_sha256: str
    managed: bool
    lost: bool = False


def render_inventory(devices: Iterable[DeviceEntry], now: datetime) -> str:
    """`inventory.yaml`, taken at `now`."""
    measured = (now - timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "revision: 1",
        f'taken: "{now.strftime("%Y-%m-%dT%H:%M:%SZ")}"',
        "devices:",
    ]
    for device in devices:
        lines += [
            f"- id: {device.name}",
            f'  certificate_sha256: ["{device.certificate_sha256}"]',
            f"  managed: {str(device.managed).lower()}",
            "  disk_encrypted: true",
            f"  lost: {str(device.lost).lower()}",
            "  os: macos",
            '  os_version: "15.1"',
            f'  posture_time: "{measured}"',
        ]
    return "\n".join([*lines, ""])


def render_log(*, listen: str, directory: str) -> str:
    """`log.yaml`; key and enrolment file lie beside it."""
    return f"""\
# SPDX-License-Identifier: Apache-2.0
kind: Log
origin: {LOG_ORIGIN}
key_file: log.key
directory: {directory}
listen: {listen}
enrolment_file: enrolment.yaml
vault: {{key_file: vault.key, index_key_file: index.key}}
privacy: {{access_file: access.yaml}}
publish_interval: 200ms
"""


def render_enrolment(token_sha256: str) -> str:
    """`enrolment.yaml`: the one token that the log gives out, by its hash."""
    return f"""\
# SPDX-License-Identifier: Apache-2.0
tokens:
- {{name: demo, sha256: {token_sha256}}}
"""


def render_access(hashes: Mapping[str, str]) -> str:
    """`access.yaml`: by its hash, the token of each role."""
    lines = [f"- {{name: {role}, roles: [{role}], sha256: {digest}}}" for role, digest in hashes.items()]
    return "\n".join(["# SPDX-License-Identifier: Apache-2.0", "tokens:", *lines, ""])


def render_shipping(*, address: str, verifier_key: str) -> str:
    """The section of `sidecar.yaml` that names the audit log."""
    return f"""\
log:
  address: {address}
  verifier_key: "{verifier_key}"
  enrolment_token_file: {ENROLMENT_TOKEN_FILE}
"""


def render_sidecar(*, listen: str, journal_bound: str, shipping: str = "", vault_key: str = "") -> str:
    """`sidecar.yaml`; the other files lie beside it. `shipping` is the section `log`, or nothing.

    `vault_key` is what records are sealed to; without one they stay open.
    """
    seal = f'{{vault_key: "{vault_key}"}}' if vault_key else "none"
    return f"""\
# SPDX-License-Identifier: Apache-2.0
kind: Sidecar
listen: {listen}
log_origin: {LOG_ORIGIN}
workload: demo
instance: demo
refresh_interval: 1s
journal: {{directory: journal, bound: {journal_bound}}}
policies: [policy.yaml]
seal: {seal}
identity:
  issuers:
  - name: staff
    issuer: {ISSUER}
    audiences: ["https://{HOST}"]
    algorithms: [ES256]
    jwks_file: jwks.json
    claims: [team, clearance]
  - name: partners
    issuer: {SECOND_ISSUER}
    audiences: ["https://{HOST}"]
    algorithms: [RS256]
    jwks_file: jwks-partners.json
    claims: [team]
device: {{inventory_file: inventory.yaml}}
location: {{client_address: envoy, networks_file: networks.yaml, geography_file: places.mmdb}}
{shipping}"""
