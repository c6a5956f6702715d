# SPDX-License-Identifier: Apache-2.0
"""`iap-authz keys used`: which keys these sidecars have noted, and what it does not claim to know."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iap_authz.cli import make_app
from iap_authz.errors import ConfigInvalid
from iap_authz.facts.key_use import KeyUses, render_uses
from iap_authz.key_use_wiring import USES_FILE_NAME

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
BUSY, IDLE, NEVER, YOUNG = (letter * 16 for letter in "abcd")


def text_of(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def entry(key_id: str, name: str, *, age: timedelta = 100 * DAY) -> dict[str, object]:
    return {
        "id": key_id,
        "name": name,
        "hmac_sha256": "5e" * 32,
        "subject": f"the {name}",
        "created": text_of(NOW - age),
        "expires": text_of(NOW + 50 * DAY),
    }


ENTRIES = [entry(BUSY, "busy"), entry(IDLE, "idle"), entry(NEVER, "never"), entry(YOUNG, "young", age=2 * DAY)]


def sidecar(folder: Path, *, keys: list[dict[str, object]] | None = None, uses: KeyUses | bytes | None = None) -> Path:
    """The files of a sidecar that has noted these uses. There is no pepper: none is needed."""
    (folder / "journal").mkdir(parents=True)
    (folder / "keys.json").write_text(json.dumps({"keys": ENTRIES if keys is None else keys}))
    config = folder / "sidecar.yaml"
    config.write_text(
        "kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: x\njournal: {directory: journal}\nseal: none\n"
        "policies: [policy.yaml]\nidentity: {api_keys: {file: keys.json, pepper_file: pepper}}\n"
    )
    if uses is not None:
        content = render_uses(uses) if isinstance(uses, KeyUses) else uses
        (folder / "journal" / USES_FILE_NAME).write_bytes(content)
    return config


def run(*arguments: object) -> Result:
    words = ["keys", "used", *(str(one) for one in arguments)]
    return CliRunner().invoke(make_app(["keys"]), words, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two sidecars with the same keys; the second began to note later."""
    one = KeyUses(since=NOW - 90 * DAY, used={BUSY: NOW - 9 * DAY, IDLE: NOW - 40 * DAY})
    other = KeyUses(since=NOW - 60 * DAY, used={BUSY: NOW - DAY, "e" * 16: NOW})
    return [sidecar(tmp_path / "1", uses=one), sidecar(tmp_path / "2", uses=other)]


def test_uses_are_merged_over_sidecars_and_the_longest_unused_comes_first(two: list[Path]) -> None:
    result = run(*two)
    assert result.exit_code == 0, result.output
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["id", "name", "subject", "created", "expires", "last used"]
    assert [(line[0], line[-1]) for line in cells[1:]] == [
        (NEVER, "never noted"),
        (YOUNG, "never noted"),
        (IDLE, text_of(NOW - 40 * DAY)),
        (BUSY, text_of(NOW - DAY)),
    ]
    assert f"noted since {text_of(NOW - 60 * DAY)}" in result.stderr, "the later of the two beginnings"
    assert "the audit log is what proves a use" in result.stderr


def test_json_says_the_same(two: list[Path]) -> None:
    found = json.loads(run(*two, "--json").stdout)
    assert found["noted_since"] == text_of(NOW - 60 * DAY)
    assert found["keys"][0] == {
        "id": NEVER,
        "name": "never",
        "subject": "the never",
        "created": text_of(NOW - 100 * DAY),
        "expires": text_of(NOW + 50 * DAY),
        "last_used": None,
    }
    assert found["keys"][3]["last_used"] == text_of(NOW - DAY)


def test_only_keys_that_were_unused_for_so_long(two: list[Path]) -> None:
    def ids(span: str) -> list[str]:
        return [key["id"] for key in json.loads(run(*two, "--json", "--unused-for", span).stdout)["keys"]]

    assert ids("30d") == [NEVER, IDLE], "the young one is younger than that"
    assert ids("45d") == [NEVER]
    assert ids("12h") == [NEVER, YOUNG, IDLE, BUSY]
    assert "not noted for as long" not in run(*two, "--unused-for", "45d").stderr
    assert "not noted for as long" in run(*two, "--unused-for", "70d").stderr


def test_a_sidecar_that_has_noted_nothing_yet_is_said(tmp_path: Path, two: list[Path]) -> None:
    result = run(*two, sidecar(tmp_path / "3"))
    assert result.exit_code == 0
    assert "not all of these sidecars have noted anything yet" in result.stderr
    assert json.loads(run(sidecar(tmp_path / "4"), "--json").stdout)["noted_since"] is None


def test_a_subject_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    keys = [{**ENTRIES[0], "subject": "\u202ebackwards"}]
    assert "\\u202ebackwards" in run(sidecar(tmp_path / "1", keys=keys)).stdout


@pytest.mark.parametrize("span", ["", "0d", "30", "1w", "-1d", "30d "])
def test_a_span_of_another_form_is_a_usage_error(two: list[Path], span: str) -> None:
    result = run(*two, "--unused-for", span)
    assert result.exit_code == 2
    assert "--unused-for" in result.output


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"api-keys-used\.json"):
        raise run(sidecar(tmp_path / "1", uses=b"{}")).exception or AssertionError
    unused = sidecar(tmp_path / "2")
    unused.write_text(unused.read_text().replace("identity: ", "#"))
    with pytest.raises(ConfigInvalid, match="takes no API keys"):
        raise run(unused).exception or AssertionError
