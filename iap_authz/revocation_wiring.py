# SPDX-License-Identifier: Apache-2.0
"""The assembly of revocations in PostgreSQL, for the sidecar that reads them and the command that writes them.

It loads SQLAlchemy and psycopg, so whoever may not need it imports it where the need is known.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iap_authz.adapters.facts.postgres import Database
from iap_authz.adapters.facts.revocations_database import RevocationsDatabase
from iap_authz.adapters.facts.revocations_schema import SCHEMA
from iap_authz.adapters.facts.revocations_table import Listed, RevocationsTable, Written, parse_one
from iap_authz.adapters.keys.database_url import load_database_url

__all__ = ["SCHEMA", "Listed", "RevocationsTable", "Written", "open_source", "open_table", "parse_one"]


def open_source(name: str, url_file: Path) -> RevocationsDatabase:
    """The list in the database whose URL is in this file. Raises ConfigInvalid for a file that cannot be used."""
    load_database_url(url_file)
    return RevocationsDatabase(name, Database(lambda: load_database_url(url_file), read_only=True))


@contextmanager
def open_table(url_file: Path) -> Iterator[RevocationsTable]:
    """The same, to write it; closed with the block."""
    table = RevocationsTable(Database(lambda: load_database_url(url_file), read_only=False))
    try:
        yield table
    finally:
        table.close()
