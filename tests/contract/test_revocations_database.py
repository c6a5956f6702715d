# SPDX-License-Identifier: Apache-2.0
"""Revocations in a real PostgreSQL: what the tables refuse, what the trigger never forgets, and how each wait ends."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from iap_authz.adapters.facts import postgres as postgres_module
from iap_authz.adapters.facts import revocations as revocations_module
from iap_authz.adapters.facts.postgres import Database
from iap_authz.adapters.facts.revocations_database import RevocationsDatabase
from iap_authz.adapters.facts.revocations_schema import SCHEMA
from iap_authz.errors import ConfigInvalid, Invalid, Refused, SourceUnavailable
from iap_authz.facts.revocation import Kind, Revocation
from iap_authz.revocation_wiring import open_table
from tests.fakes.postgres import PASSWORD, SIDECAR, SIDECAR_PASSWORD, Postgres, silent_server

BOUND_SECONDS = 30.0
"""Above every wait here, which has 2 s or some; far below the bound of a test that hangs."""

ADA = "('sub', 'i', 'ada')"
INSERT = "INSERT INTO iap_authz.revocations (kind, issuer, value) VALUES "

Open = Callable[..., RevocationsDatabase]


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.make_database()


@pytest.fixture
def open_source() -> Iterator[Open]:
    """Makes sources over a URL, and closes them."""
    made = []

    def make(url: str) -> RevocationsDatabase:
        made.append(RevocationsDatabase("revocations", Database(lambda: url, read_only=True)))
        return made[-1]

    yield make
    for source in made:
        source.close()


@pytest.fixture
def source(postgres: Postgres, database: str, open_source: Open) -> RevocationsDatabase:
    """As a sidecar has it: with a role that may read."""
    return open_source(postgres.url(database, role=SIDECAR, password=SIDECAR_PASSWORD))


def seconds_until_unavailable(ask: Callable[[], object]) -> tuple[float, str]:
    began = time.monotonic()
    with pytest.raises(SourceUnavailable) as caught:
        ask()
    assert PASSWORD not in str(caught.value)
    assert SIDECAR_PASSWORD not in str(caught.value)
    return time.monotonic() - began, str(caught.value)


# ---- the tables


@pytest.mark.parametrize(
    ("columns", "values", "constraint"),
    [
        ("kind, value", "'sub', 'ada'", "issuer_where_it_means_something"),
        ("kind, issuer, value", "'api_key', 'i', '9f86d081884c7d65'", "issuer_where_it_means_something"),
        ("kind, issuer, value", f"'certificate_sha256', 'CN=i', '{'ab' * 32}'", "issuer_where_it_means_something"),
        ("kind, issuer, value", "'sub', 'i', ''", "bounded_value"),
        ("kind, issuer, value", "'sub', 'i', repeat('a', 4097)", "bounded_value"),
        ("kind, issuer, value", "'sub', repeat('i', 4097), 'a'", "bounded_issuer"),
        ("kind, issuer, value", "'subject', 'i', 'a'", "known_kind"),
        ("kind, issuer, value, before", "'jti', 'i', 'a', now()", "before_where_it_means_something"),
        ("kind, issuer, value, before", "'sub', 'i', 'a', 'infinity'", "datable_before"),
        ("kind, issuer, value, until", "'sub', 'i', 'a', '-infinity'", "datable_until"),
        ("kind, issuer, value, until", "'sub', 'i', 'a', '10000-01-01Z'", "datable_until"),
        ("kind, issuer, value, until", "'sub', 'i', 'a', '0044-03-15 BC'", "datable_until"),
        ("kind, value", "'api_key', '9F86D081884C7D65'", "form_of_api_key"),
        ("kind, value", f"'certificate_sha256', '{'AB' * 32}'", "form_of_certificate_sha256"),
        ("kind, issuer, value", "'certificate_serial', 'CN=i', '0A'", "form_of_certificate_serial"),
        ("kind, issuer, value", "'certificate_serial', 'CN=i', '00a1'", "form_of_certificate_serial"),
        ("kind, issuer, value", "'certificate_serial', 'CN=i', 'a'", "form_of_certificate_serial"),
        ("kind, issuer, value", "'certificate_serial', 'Example CA', '0a'", "form_of_certificate_issuer"),
        ("kind, issuer", "'sub', 'i'", "null value in column"),
    ],
)
def test_what_means_nothing_is_refused(
    postgres: Postgres, database: str, columns: str, values: str, constraint: str
) -> None:
    insert = f"INSERT INTO iap_authz.revocations ({columns}) VALUES ({values})"  # noqa: S608 -- of the table above
    with pytest.raises(psycopg.IntegrityError, match=constraint):
        postgres.run(database, [insert])


@pytest.mark.parametrize(
    "statement",
    [
        INSERT + ADA,
        INSERT + "('sub', 'i', 'bob'), ('sub', 'i', 'eve')",
        "UPDATE iap_authz.revocations SET value = 'bob'",
        "DELETE FROM iap_authz.revocations",
        "TRUNCATE iap_authz.revocations",
        "TRUNCATE iap_authz.revocations CASCADE",
        "COPY iap_authz.revocations (kind, issuer, value) FROM PROGRAM 'printf \"sub\\ti\\tbob\\n\"'",
        "WITH gone AS (DELETE FROM iap_authz.revocations RETURNING 1) SELECT count(*) FROM gone",
        "MERGE INTO iap_authz.revocations USING (VALUES (1)) AS one ON true WHEN MATCHED THEN DELETE",
        "SET session_replication_role = replica; DELETE FROM iap_authz.revocations",
    ],
)
def test_every_write_has_another_revision_and_is_seen(
    postgres: Postgres, database: str, source: RevocationsDatabase, statement: str
) -> None:
    postgres.run(database, [INSERT + ADA])
    before, seen = source.version(), source.load()
    postgres.run(database, [statement])
    after = source.load()
    assert after.revision > seen.revision
    assert source.version() != before
    (expected,) = postgres.fetch(database, "SELECT count(*) FROM iap_authz.revocations")
    assert len(after.entries) == expected[0]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE iap_authz.revocations_revision SET revision = revision - 1",
        "DELETE FROM iap_authz.revocations_revision",
        "TRUNCATE iap_authz.revocations_revision",
        "INSERT INTO iap_authz.revocations_revision (single) VALUES (2)",
    ],
)
def test_a_revision_goes_neither_down_nor_away(postgres: Postgres, database: str, statement: str) -> None:
    postgres.run(database, [INSERT + ADA])
    with pytest.raises(psycopg.Error):
        postgres.run(database, [statement])
    assert postgres.fetch(database, "SELECT revision FROM iap_authz.revocations_revision") == [(1,)]


def test_a_write_that_is_rolled_back_has_no_revision(postgres: Postgres, database: str) -> None:
    with psycopg.connect(postgres.url(database)) as connection:
        connection.execute(INSERT + ADA)
        connection.rollback()
    assert postgres.fetch(database, "SELECT revision FROM iap_authz.revocations_revision") == [(0,)]


def test_writers_wait_for_each_other_so_no_revision_is_given_twice_or_seen_early(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    with psycopg.connect(postgres.url(database)) as first:
        first.execute(INSERT + "('sub', 'i', 'first')")
        second = threading.Thread(target=postgres.run, args=(database, [INSERT + "('sub', 'i', 'second')"]))
        second.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while postgres.fetch(database, waits) == [(0,)]:
            assert second.is_alive()
        assert source.load().entries == ()
        first.commit()
    second.join(BOUND_SECONDS)
    assert source.load().revision == 2


def test_numbers_that_a_failed_over_server_gives_out_again_are_not_the_same_version(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    """An asynchronous replica has lost the last write, and takes another one in its place."""
    postgres.run(database, [INSERT + ADA])
    lost = source.version()
    guard = "ALTER TABLE iap_authz.revocations_revision {} TRIGGER keep_revision"
    behind = "UPDATE iap_authz.revocations_revision SET revision = 0"
    postgres.run(database, [guard.format("DISABLE"), behind, guard.format("ENABLE ALWAYS")])
    postgres.run(database, ["UPDATE iap_authz.revocations SET value = 'bob'"])
    assert source.load().revision == 1
    assert source.version() != lost


def test_the_schema_can_be_made_twice_and_keeps_what_is_there(postgres: Postgres, database: str) -> None:
    postgres.run(database, [INSERT + ADA, "DROP TRIGGER advance_revision ON iap_authz.revocations"])
    postgres.run(database, [SCHEMA])
    postgres.run(database, ["DELETE FROM iap_authz.revocations"])
    assert postgres.fetch(database, "SELECT revision FROM iap_authz.revocations_revision") == [(2,)]


def test_a_role_that_may_write_entries_need_not_write_the_revision(postgres: Postgres, database: str) -> None:
    postgres.run(database, ["GRANT INSERT ON iap_authz.revocations TO sidecar"])
    as_role = {"role": SIDECAR, "password": SIDECAR_PASSWORD}
    postgres.run(database, [INSERT + ADA], **as_role)
    assert postgres.fetch(database, "SELECT revision FROM iap_authz.revocations_revision") == [(1,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        postgres.run(database, ["UPDATE iap_authz.revocations_revision SET revision = 9"], **as_role)


def test_objects_in_front_of_the_functions_search_path_change_nothing(postgres: Postgres, database: str) -> None:
    """The trigger runs as the owner: what a writer can make must not run with its rights."""
    postgres.run(
        database, ["GRANT INSERT ON iap_authz.revocations TO sidecar", "CREATE SCHEMA s AUTHORIZATION sidecar"]
    )
    evil = "CREATE FUNCTION s.gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT (1/0)::text::uuid'"
    both = f"{evil}; SET search_path = s, pg_catalog; {INSERT}{ADA}"
    postgres.run(database, [both], role=SIDECAR, password=SIDECAR_PASSWORD)
    assert postgres.fetch(database, "SELECT revision FROM iap_authz.revocations_revision") == [(1,)]


# ---- reading


def test_the_sidecar_cannot_write(postgres: Postgres, database: str) -> None:
    table = Database(lambda: postgres.url(database), read_only=True)
    with pytest.raises(SourceUnavailable, match="read-only transaction"), table.transaction() as connection:
        connection.exec_driver_sql(INSERT + ADA)
    table.close()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        postgres.run(database, [INSERT + ADA], role=SIDECAR, password=SIDECAR_PASSWORD)


def test_revision_and_entries_are_of_one_moment(
    postgres: Postgres, database: str, source: RevocationsDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = RevocationsDatabase._check_bounds  # noqa: SLF001 -- the moment between two statements of one load

    def write_meanwhile(self: RevocationsDatabase, connection: object) -> None:
        postgres.run(database, [INSERT + ADA])
        check(self, connection)  # type: ignore[arg-type]

    monkeypatch.setattr(RevocationsDatabase, "_check_bounds", write_meanwhile)
    seen = source.load()
    assert (seen.revision, seen.entries) == (0, ())
    monkeypatch.undo()
    assert source.load().entries == (Revocation(kind=Kind.SUBJECT, issuer="i", value="ada"),)


def test_a_look_is_one_question_and_uses_one_connection(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    for _ in range(5):
        source.version()
    connected = (
        "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE usename = 'sidecar' AND datname = current_database()"
    )
    assert postgres.fetch(database, connected) == [(1,)]


def test_too_many_entries_or_too_large_ones_are_refused_before_they_are_read(
    postgres: Postgres, database: str, source: RevocationsDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.run(database, [INSERT + "('sub', 'i', 'ada'), ('sub', 'i', 'bob'), ('sub', 'i', 'eve')"])
    monkeypatch.setattr(revocations_module, "FILE_MAX_BYTES", 11)
    with pytest.raises(Invalid, match="got 12 bytes of names, want at most 11"):
        source.load()
    monkeypatch.setattr(revocations_module, "ENTRIES_MAX", 2)
    with pytest.raises(Invalid, match="got 3 entries, want at most 2"):
        source.load()


def test_a_kind_of_a_later_version_makes_the_list_unusable_and_is_named(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    drop = "ALTER TABLE iap_authz.revocations DROP CONSTRAINT {}"
    postgres.run(database, [drop.format("known_kind"), INSERT + "('sub', 'i', 'ada'), ('fingerprint', 'i', 'x')"])
    with pytest.raises(Invalid, match=r"^revocations: revoked\[2\]\.fingerprint: unknown key, want one of"):
        source.load()


def test_times_that_python_does_not_have_make_the_list_unusable(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    drop = "ALTER TABLE iap_authz.revocations DROP CONSTRAINT datable_until"
    dated = "INSERT INTO iap_authz.revocations (kind, issuer, value, until) VALUES ('sub', 'i', 'ada', '20000-01-01Z')"
    postgres.run(database, [drop, dated])
    with pytest.raises(Invalid, match=r"revoked\[1\]\.until: got '20000-01-01T"):
        source.load()


def test_a_database_in_another_encoding_is_refused(postgres: Postgres, open_source: Open) -> None:
    name = postgres.make_database(schema=False)
    other = f"{name}_ascii"
    postgres.run("postgres", [f"CREATE DATABASE {other} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"])
    postgres.run(other, [SCHEMA, INSERT + "('sub', 'i', E'ad\\xffa')"])
    with pytest.raises(Invalid, match="no UTF-8"):
        open_source(postgres.url(other)).load()


def test_without_tables_or_rights_it_is_not_there_and_the_message_says_what_to_do(
    postgres: Postgres, open_source: Open
) -> None:
    name = postgres.make_database(schema=False)
    source = open_source(postgres.url(name, role=SIDECAR, password=SIDECAR_PASSWORD))
    for ask in (source.version, source.load):
        assert "iap-authz revocations init" in seconds_until_unavailable(ask)[1]
    postgres.run(name, [SCHEMA])
    for ask in (source.version, source.load):
        assert "permission denied for schema iap_authz" in seconds_until_unavailable(ask)[1]


def test_without_a_revision_the_list_is_unusable(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    guard = "ALTER TABLE iap_authz.revocations_revision DISABLE TRIGGER USER"
    postgres.run(database, [guard, "DELETE FROM iap_authz.revocations_revision"])
    with pytest.raises(Invalid, match="got no revision"):
        source.version()
    with pytest.raises(psycopg.Error, match="has no row"):
        postgres.run(database, [INSERT + ADA])


# ---- what goes wrong on the way


def test_a_wrong_password_a_missing_database_and_a_url_that_is_none_are_told_without_the_url(
    postgres: Postgres, open_source: Open
) -> None:
    for url in (postgres.url("postgres", password="another"), postgres.url("nowhere")):
        _, message = seconds_until_unavailable(open_source(url).load)
        assert "another" not in message
    for url in ("postgresql://u:s3cret@h:5432/d?nonsense=1", "postgresql://u:s3cret@[/d"):
        with pytest.raises(ConfigInvalid, match="does not parse") as caught:
            open_source(url).version()
        assert "s3cret" not in str(caught.value)


def test_a_server_that_takes_connections_and_says_nothing_is_given_up(open_source: Open) -> None:
    with silent_server() as port:
        source = open_source(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/d?connect_timeout=600")
        for ask in (source.version, source.load):
            seconds, message = seconds_until_unavailable(ask)
            assert seconds < BOUND_SECONDS
            assert "timeout" in message


def test_a_server_that_freezes_after_it_answered_is_given_up_and_asked_again(
    postgres: Postgres, source: RevocationsDatabase
) -> None:
    before = source.version()
    with postgres.frozen():
        seconds, message = seconds_until_unavailable(source.version)
        assert seconds < BOUND_SECONDS
        assert "no answer within 2 s" in message
        assert seconds_until_unavailable(source.version)[0] < BOUND_SECONDS
    assert source.version() == before


LET_IN = b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"
"""AuthenticationOk and ReadyForQuery (PostgreSQL, "Message Formats")."""


@pytest.mark.parametrize(
    ("let_in", "message"), [(b"", "timeout expired"), (LET_IN, "no answer within 2 s")], ids=["connecting", "answering"]
)
def test_an_answer_that_trickles_is_given_up(open_source: Open, let_in: bytes, message: str) -> None:
    """The first bytes of a long message, and then one now and then, for ever."""
    over = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(let_in)
            if let_in:
                connection.recv(65_536)
            connection.sendall(b"T\x00\x00\xff\xff" if let_in else b"R\x00\x00\x07\x00")
            while not over.wait(0.05):
                try:
                    connection.sendall(b"\0")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        try:
            source = open_source(
                f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/d?sslmode=disable&gssencmode=disable"
            )
            seconds, said = seconds_until_unavailable(source.version)
            assert seconds < BOUND_SECONDS
            assert message in said
        finally:
            over.set()
            thread.join()


def test_a_lock_that_nobody_gives_back_is_not_waited_for(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    with psycopg.connect(postgres.url(database)) as migration:
        migration.execute("LOCK TABLE iap_authz.revocations_revision")
        seconds, _ = seconds_until_unavailable(source.version)
        assert seconds < BOUND_SECONDS
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'sidecar' AND wait_event_type = 'Lock'"
        began = time.monotonic()
        while postgres.fetch(database, waiting) != [(0,)]:
            assert time.monotonic() - began < BOUND_SECONDS, "the server gives up too"
        migration.rollback()
    source.version()


def test_a_connection_that_the_server_ended_is_made_again(
    postgres: Postgres, database: str, source: RevocationsDatabase
) -> None:
    before = source.version()
    ended = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'sidecar'"
    assert postgres.fetch(database, ended) == [(1,)]
    seconds_until_unavailable(source.version)
    assert source.version() == before


def test_a_new_password_counts_without_a_restart(postgres: Postgres, database: str, tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.touch(mode=0o600)
    path.write_text("postgresql://u:old@127.0.0.1:1/d\n")
    with open_table(path) as table:
        with pytest.raises(SourceUnavailable):
            table.entries()
        path.write_text(postgres.url(database) + "\n")
        assert table.entries() == (0, [])


def test_the_settings_of_the_url_stay_and_the_bounds_are_ours(postgres: Postgres, database: str) -> None:
    url = (
        postgres.url(database)
        + "?application_name=mine&options=-c%20search_path%3Dnowhere%20-c%20statement_timeout%3D0"
    )
    asked = Database(lambda: url, read_only=True)
    names = ("application_name", "search_path", "statement_timeout", "lock_timeout", "client_encoding")
    with asked.transaction() as connection:
        found = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
    asked.close()
    assert found == ["mine", "nowhere", "20s", "2s", "UTF8"]
    assert (postgres_module.STATEMENT_MAX_SECONDS, postgres_module.ANSWER_SECONDS) == (20.0, 2.0)


def test_a_role_that_is_not_let_in_is_told_apart(postgres: Postgres, database: str) -> None:
    asked = Database(lambda: postgres.url(database, role=SIDECAR, password=SIDECAR_PASSWORD), read_only=False)
    with pytest.raises(Refused, match="permission denied for table revocations"), asked.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM iap_authz.revocations")
    asked.close()
