# SPDX-License-Identifier: Apache-2.0
"""Commands that ask an audit log, run in this process against one made in memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iap_authz.cli import make_app
from tests.fakes.made_log import small_log
from tests.fakes.made_remote import MadeRemote

Run = Callable[..., Result]


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> MadeRemote:
    """The log that every command of the test reaches, whatever the address."""
    made = MadeRemote(small_log()[0])
    monkeypatch.setattr("iap_authz.client.log.LogChannel", made.connect)
    monkeypatch.setattr("iap_authz.client.LogChannel", made.connect)
    return made


@pytest.fixture
def run(remote: MadeRemote, tmp_path: Path) -> Run:
    """Run a command with its state in a folder of the test."""
    environment = {
        "IAP_AUTHZ_LOG": "unix:/run/log.sock",
        "IAP_AUTHZ_LOG_KEY": remote.log.key.render(),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COLUMNS": "300",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }

    def invoke(*arguments: object, **changed: str | None) -> Result:
        words = [str(one) for one in arguments]
        return CliRunner().invoke(make_app(words[:1]), words, env={**environment, **changed})

    return invoke
