# SPDX-License-Identifier: Apache-2.0
"""`iap-authz revocations` on a real PostgreSQL."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iap_authz.cli import make_app
from iap_authz.errors import Invalid, Refused, SourceUnavailable
from iap_authz.facts.revocation import Kind, Revocation
from iap_authz.revocation_wiring import open_source, open_table
from tests.fakes.postgres import SIDECAR, SIDECAR_PASSWORD, Postgres

ISSUER = "https://login.example.com/"
Run = Callable[..., Result]


@pytest.fixture
def url_file(postgres: Postgres, tmp_path: Path) -> Path:
    """Of a database without tables."""
    path = tmp_path / "revocations.url"
    path.touch(mode=0o600)
    path.write_text(postgres.url(postgres.make_database(schema=False)) + "\n")
    return path


@pytest.fixture
def run(url_file: Path) -> Run:
    def invoke(*arguments: object, **changed: str) -> Result:
        words = ["revocations", *(str(one) for one in arguments)]
        environment = {"IAP_AUTHZ_DATABASE_URL_FILE": str(url_file), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        return CliRunner().invoke(make_app(words[:1]), words, env={**environment, **changed})

    return invoke


def said(result: Result) -> object:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def in_force(url_file: Path) -> tuple[Revocation, ...]:
    """What a sidecar reads."""
    source = open_source("revocations", url_file)
    try:
        return source.load().entries
    finally:
        source.close()


def test_from_nothing_to_a_revocation_and_back(run: Run, url_file: Path) -> None:
    assert said(run("init", "--json")) == {"made": True}
    assert said(run("add", "sub=ada", "--issuer", ISSUER, "--json")) == {"added": [1], "revision": 1}
    added = run("add", "api_key=9f86d081884c7d65", "--until", "2026-02-01T09:00:00Z")
    assert added.stdout == "entry 2 is added; revision 2\n"
    first, second = in_force(url_file)
    assert (first.kind, first.issuer, first.value) == (Kind.SUBJECT, ISSUER, "ada")
    assert (second.kind, second.value, str(second.until)) == (
        Kind.API_KEY,
        "9f86d081884c7d65",
        "2026-02-01 09:00:00+00:00",
    )
    assert run("remove", "sub=ada", "--issuer", ISSUER).stdout == "removed 1; revision 3\n"
    assert said(run("remove", "--id", 2, "--json")) == {"removed": [2], "revision": 4}
    assert in_force(url_file) == ()


def test_init_is_safe_to_run_twice_and_what_it_prints_is_what_it_runs(
    run: Run, url_file: Path, postgres: Postgres
) -> None:
    printed = run("init", "--print", IAP_AUTHZ_DATABASE_URL_FILE="")
    assert printed.exit_code == 0
    postgres.run(url_file.read_text().strip().rpartition("/")[2], [printed.stdout])
    assert run("add", "sub=ada", "--issuer", ISSUER).exit_code == 0
    assert run("init").stdout == "the tables of revocations are there\n"
    assert len(in_force(url_file)) == 1


def test_the_same_entry_is_there_once(run: Run, url_file: Path) -> None:
    run("init")
    run("add", "sub=ada", "--issuer", ISSUER)
    again = run("add", "sub=ada", "--issuer", ISSUER)
    assert again.stdout == "the same entry was there already; revision 1\n"
    run("add", "sub=ada", "--issuer", ISSUER, "--before", "now")
    assert len(in_force(url_file)) == 2
    assert run("remove", "sub=ada", "--issuer", ISSUER).stdout == "removed 1, 2; revision 3\n"


def test_an_authority_is_found_however_it_is_written(run: Run, url_file: Path) -> None:
    run("init")
    run("add", "certificate_serial=0a1b", "--issuer", "CN=Example CA,O=Example")
    run("add", "certificate_serial=0a1b", "--issuer", "CN=Another CA,O=Example")
    removed = run("remove", "certificate_serial=0a1b", "--issuer", "O = example, CN = example ca")
    assert removed.stdout == "removed 1; revision 3\n"
    assert [entry.issuer for entry in in_force(url_file)] == ["CN=Another CA,O=Example"]


def test_the_list_says_who_added_what(run: Run) -> None:
    run("init")
    run("add", "sub=ada\x1b[31m", "--issuer", ISSUER, "--before", "2026-01-31T10:00:00+01:00")
    (entry,) = json.loads(run("list", "--json").stdout)["revoked"]
    assert entry.pop("added").endswith("Z")
    want = {
        "id": 1,
        "sub": "ada\x1b[31m",
        "issuer": ISSUER,
        "before": "2026-01-31T09:00:00.000000Z",
        "added_by": "owner",
    }
    assert entry == want
    shown = run("list")
    assert "1  sub=ada\\x1b[31m  issuer=https://login.example.com/  before=2026-01-31T09:00:00.000000Z" in shown.stdout
    assert "1 entries; revision 1" in shown.stderr


def test_what_no_sidecar_can_read_is_listed_and_can_be_removed(run: Run, url_file: Path, postgres: Postgres) -> None:
    run("init")
    drop = "ALTER TABLE iap_authz.revocations DROP CONSTRAINT known_kind"
    odd = "INSERT INTO iap_authz.revocations (kind, issuer, value) VALUES ('fingerprint', 'i', 'x')"
    postgres.run(url_file.read_text().strip().rpartition("/")[2], [drop, odd])
    with pytest.raises(Invalid, match=r"revoked\[1\]"):
        in_force(url_file)
    assert json.loads(run("list", "--json").stdout)["revoked"][0]["fingerprint"] == "x"
    assert run("remove", "--id", 1).exit_code == 0
    assert in_force(url_file) == ()


def test_removing_what_is_not_there_does_not_hold(run: Run) -> None:
    run("init")
    missing = run("remove", "sub=ada", "--issuer", ISSUER)
    assert (missing.exit_code, missing.stdout) == (1, "there is no such entry; revision 0\n")
    assert run("remove", "--id", 7, "--json").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "sub=ada"), "got a sub without an issuer, want the iss of its tokens"),
        (("add", "api_key=9f86d081884c7d65", "--issuer", "i"), "of an API key, want none"),
        (("add", "jti=x", "--issuer", "i", "--before", "now"), "got before for a jti"),
        (("add", "sub=ada", "--issuer", "i", "--until", "tomorrow"), "until: got 'tomorrow', want a time with a zone"),
        (("add", "certificate_serial=0A", "--issuer", "CN=i"), "want lowercase hex digits in whole bytes"),
        (("add", "certificate_serial=0a", "--issuer", "i"), "want a name such as CN="),
        (("remove", "sub=ada"), "without an issuer"),
    ],
)
def test_an_entry_that_means_nothing_is_refused_before_anybody_is_asked(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    result = run(*arguments, IAP_AUTHZ_DATABASE_URL_FILE="/nowhere")
    assert isinstance(result.exception, Invalid)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "ada", "--issuer", "i"),
        ("add", "subject=ada", "--issuer", "i"),
        ("remove",),
        ("remove", "sub=ada", "--issuer", "i", "--id", "1"),
        ("remove", "--id", "1", "--issuer", "i"),
    ],
)
def test_usage(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_without_a_file_it_says_which_is_wanted(run: Run) -> None:
    for arguments in (("init",), ("add", "sub=ada", "--issuer", "i"), ("list",)):
        result = run(*arguments, IAP_AUTHZ_DATABASE_URL_FILE="")
        assert result.exit_code == 2
        assert "--database-url-file" in result.stderr


def test_a_database_without_tables_or_without_rights_is_told(run: Run, url_file: Path, postgres: Postgres) -> None:
    assert "iap-authz revocations init" in str(run("list").exception)
    run("init")
    database = url_file.read_text().strip().rpartition("/")[2]
    url_file.write_text(postgres.url(database, role=SIDECAR, password=SIDECAR_PASSWORD))
    refused = run("list")
    assert isinstance(refused.exception, Refused)
    assert "permission denied" in str(refused.exception)
    url_file.write_text("postgresql://u:s3cret@127.0.0.1:1/d")
    gone = run("add", "sub=ada", "--issuer", ISSUER)
    assert isinstance(gone.exception, SourceUnavailable)
    assert "s3cret" not in str(gone.exception)


def test_a_writer_needs_the_rights_that_the_manual_names_and_no_more(
    run: Run, url_file: Path, postgres: Postgres
) -> None:
    run("init")
    database = url_file.read_text().strip().rpartition("/")[2]
    rights = (
        "GRANT USAGE ON SCHEMA iap_authz TO sidecar",
        "GRANT SELECT, INSERT, DELETE ON iap_authz.revocations TO sidecar",
        "GRANT SELECT ON iap_authz.revocations_revision TO sidecar",
    )
    postgres.run(database, rights)
    url_file.write_text(postgres.url(database, role=SIDECAR, password=SIDECAR_PASSWORD))
    assert run("add", "sub=ada", "--issuer", ISSUER).exit_code == 0
    assert json.loads(run("list", "--json").stdout)["revoked"][0]["added_by"] == SIDECAR
    assert run("remove", "sub=ada", "--issuer", ISSUER).exit_code == 0
    assert isinstance(run("init").exception, Refused)


def test_the_table_refuses_what_the_command_would_not_send(url_file: Path, run: Run) -> None:
    run("init")
    beyond = Revocation(kind=Kind.SUBJECT, issuer="i" * 5_000, value="ada")
    with open_table(url_file) as table, pytest.raises(Invalid, match="bounded_issuer"):
        table.add(beyond)
