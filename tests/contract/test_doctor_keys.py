# SPDX-License-Identifier: Apache-2.0
"""`iap-authz doctor` asks an issuer for its keys as a sidecar would, and leaves nothing behind."""

import json
from pathlib import Path

from typer.testing import CliRunner

from iap_authz.cli import make_app
from tests.fakes.idp import Said, serving_idp
from tests.fakes.tokens import jwk, rsa_key

CONFIG = """\
kind: Sidecar
listen: unix:authz.sock
log_origin: x
policies: [policy.yaml]
journal: {{directory: journal, bound: 4MiB}}
seal: none
identity:
  issuers:
  - name: corp
    issuer: "{issuer}"
    audiences: [a]
    algorithms: [RS256]
    fetch: {{ca_file: "{ca}", private_addresses: true}}
"""


def checked(config: Path) -> tuple[str, str]:
    """Health and message of the one source of keys."""
    report = json.loads(CliRunner().invoke(make_app(["doctor"]), ["doctor", "-c", str(config), "--json"]).stdout)
    (found,) = [one for one in report["checks"] if one["check"] == "source keys:corp"]
    return found["health"], found["message"]


def test_the_keys_of_an_issuer_are_fetched_once_and_nothing_is_kept(tmp_path: Path) -> None:
    config, journal = tmp_path / "sidecar.yaml", tmp_path / "journal"
    journal.mkdir(mode=0o700)
    with serving_idp(tmp_path) as idp:
        config.write_text(CONFIG.format(issuer=idp.url(""), ca=idp.ca_file))
        health, message = checked(config)
        assert (health, "got status 404" in message) == ("warn", True), message
        discovery = {"issuer": idp.url(""), "jwks_uri": idp.url("/keys")}
        idp.answers["/.well-known/openid-configuration"] = Said(body=json.dumps(discovery).encode())
        idp.answers["/keys"] = Said(body=json.dumps({"keys": [jwk(rsa_key("one"), kid="one")]}).encode())
        assert checked(config) == ("ok", "")
        assert len(idp.asked) == 3
    assert list(journal.iterdir()) == []
