# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL database that is asked for facts: one connection, bounded in time, made again when it is lost.

The invariant: whatever the server, the network or a pooler between does, a question ends within seconds, with an answer
or with an error of this package; and no error quotes the URL.

    connecting              2 s for each address of the host      libpq's connect_timeout
    an answer               2 s, or what the caller allows        counted here: a frozen server answers no time-out
    waiting for a lock      2 s, and each statement 20 s          asked of the server, so that it gives up too
    a dead peer             2 s                                   tcp_user_timeout, keepalives

A connection that did not answer is closed, and the next question makes a new one. Specification: PostgreSQL,
"Database Connection Control Functions".

Deliberately not bounded: the look-up of the host's name, which takes as long as the machine's resolver does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from iap_authz.errors import ConfigInvalid, Invalid, Refused, SourceUnavailable

CONNECT_SECONDS: Final = 2
"""The least that libpq takes."""

ANSWER_SECONDS: Final = 2.0
"""For a small answer. Far above what one takes, and a refresher looks every second."""

STATEMENT_MAX_SECONDS: Final = 20.0
"""For the largest one, over a slow network."""

SAID_MAX_CHARS: Final = 300
"""How much a message quotes of what the server said."""

_POLL_SECONDS = 0.1
"""How often psycopg looks up from waiting; its own default."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends within `answer_seconds`."""

    answer_seconds: float = ANSWER_SECONDS

    def wait(self, gen: PQGen[RV], interval: float = _POLL_SECONDS, timeout: float | None = None) -> RV:
        """As psycopg's, with a bound. One that was left in the middle of an answer is closed: nobody can use it."""
        seconds = self.answer_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.OperationalError:
            if self.closed or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()
            raise psycopg.OperationalError(f"no answer within {seconds:g} s") from None


class Database:
    """One database. Safe to use from any thread; those who find it in use wait, not for long."""

    def __init__(self, load_url: Callable[[], str], *, read_only: bool) -> None:
        """Connect to nothing yet. `load_url` gives the URL, whenever there is a connection to make."""
        self._load_url = load_url
        self._read_only = read_only
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=1,
            max_overflow=0,
            pool_timeout=ANSWER_SECONDS,
            hide_parameters=True,  # what is asked for names people
        )

    @contextmanager
    def transaction(self, *, answer_seconds: float = ANSWER_SECONDS) -> Iterator[Connection]:
        """A transaction that is committed when the block ends; a read-only one sees one state of the database.

        Raises SourceUnavailable where the database cannot be asked, Refused where it does not let this role, Invalid
        for what it must not hold, ConfigInvalid for a URL that is none.
        """
        with _told(), self._engine.begin() as connection:
            bounded = connection.connection.driver_connection
            if isinstance(bounded, BoundedConnection):
                bounded.answer_seconds = answer_seconds
            yield connection

    def close(self) -> None:
        """Close what is open. Idempotent, and not for ever: the next question opens it again."""
        self._engine.dispose()

    def _connect(self) -> BoundedConnection:
        connection = BoundedConnection.connect(**_parameters(self._load_url()), prepare_threshold=None)
        connection.read_only = self._read_only or None
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if self._read_only else None
        return connection


def _parameters(url: str) -> dict[str, Any]:
    """What the URL says, and the bounds, which are not its to say."""
    try:
        said = conninfo_to_dict(url)
    except psycopg.Error:
        # Without its cause: that one quotes the URL.
        raise ConfigInvalid.of_file("database URL", "got one that does not parse, want postgresql://...") from None
    milliseconds = {"statement_timeout": STATEMENT_MAX_SECONDS, "lock_timeout": ANSWER_SECONDS}
    asked = " ".join(f"-c {name}={seconds * 1000:.0f}" for name, seconds in milliseconds.items())
    return {
        "application_name": "iap-authz",
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        **said,
        "options": f"{said.get('options') or ''} {asked}".strip(),
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": int(ANSWER_SECONDS * 1000),
        "client_encoding": "UTF8",
    }


@contextmanager
def _told() -> Iterator[None]:
    """Everything that the libraries raise, in this package's words."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.errors.CharacterNotInRepertoire | psycopg.errors.UntranslatableCharacter):
            raise Invalid.of_file("database", "got text that is no UTF-8, want a database with encoding UTF8") from None
        if isinstance(cause, psycopg.IntegrityError):
            raise Invalid.of_file("database", f"refuses that: {_said(cause)}") from None
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            raise Refused(f"the database refuses: {_said(cause)}") from None
        if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
            message = "the database has no table of revocations: see `iap-authz revocations init`"
            raise SourceUnavailable(message) from None
        raise SourceUnavailable(f"the database cannot be asked: {_said(cause)}") from None


def _said(error: BaseException | None) -> str:
    """What the server or the library said, on one line. Details are left out: they quote values."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = " ".join((primary or str(error)).split()) or type(error).__name__
    return text if len(text) <= SAID_MAX_CHARS else f"{text[:SAID_MAX_CHARS]}..."
