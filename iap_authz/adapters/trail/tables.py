# SPDX-License-Identifier: Apache-2.0
"""The schema of the trail.

The invariant: nothing about a person stands here in a readable form (rules S4 and S9). What `records` holds are the
clear fields of rule S4; subjects, devices, addresses, hosts and paths have no column. What is sealed, and how it is
found, have modules of their own, which put their tables into the same `metadata`.

    standing   name -> size            how far the ledger and the index stand, in leaves of the log
    writers    one row a writer        its tree, its last note; `checksum` over the row
    batches    one row a batch         where a writer's records are; `checksum` over the row
    notes      size -> note            what was signed there (rule A3); `checksum` over the row
    terms      id <-> bytes            writers, rules, routes, ... of `records`, each once
    records    one row a leaf          numbers only, but the leaf's hash; NULL where the leaf has no such field
    spans      bucket -> times         earliest and latest time of 4,096 leaves each: what an index on time is for

    seal_tables       subject keys, salts, epochs          erasure_tables    erasures and legal holds
    postings_tables   the tokens of leaves

Times are microseconds since 1970. Numbers below 2^63 only (`tlog.hashing`). Secondary indexes of `records`, chosen by
measuring (inserts a second at 100,000 rows, 240 bytes a leaf): the first 8 bytes of the hash, not all 32 of it, since
its order is random and a small index stays in memory; a writer's place; a writer's leaves in the log's order. Other
filters run over the log's order, which is the order of the answer: about ten million rows a second.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData()

standing = Table(
    "standing",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("size", BigInteger, nullable=False),
)

writers = Table(
    "writers",
    metadata,
    Column("writer", LargeBinary(32), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("workload", String, nullable=False),
    Column("registered_index", BigInteger, nullable=False),
    Column("retired_index", BigInteger),
    Column("size", BigInteger, nullable=False),
    Column("tree", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("checksum", LargeBinary(16), nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("writer", LargeBinary(32), primary_key=True),
    Column("begin", BigInteger, primary_key=True, autoincrement=False),
    Column("end", BigInteger, nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("round_size", BigInteger, nullable=False),
    Column("checksum", LargeBinary(16), nullable=False),
)

ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite keeps a table in the order of its INTEGER PRIMARY KEY, which has 64 bits; other words mean another index."""

notes = Table(
    "notes",
    metadata,
    Column("size", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("checksum", LargeBinary(16), nullable=False),
)

terms = Table(
    "terms",
    metadata,
    Column("id", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("value", LargeBinary, nullable=False, unique=True),
)

records = Table(
    "records",
    metadata,
    Column("log_index", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("audit_key", BigInteger, nullable=False),
    Column("audit_id", LargeBinary(32), nullable=False),
    Column("writer", BigInteger),
    Column("sequence", BigInteger),
    Column("time", BigInteger),
    Column("body", BigInteger, nullable=False),
    Column("verdict", Integer),
    Column("reason", Integer),
    Column("rule", BigInteger),
    Column("route", BigInteger),
    Column("country", BigInteger),
    Column("policy_digest", BigInteger),
)
Index("records_by_audit_key", records.c.audit_key)
Index("records_by_position", records.c.writer, records.c.sequence)
Index("records_by_writer", records.c.writer, records.c.log_index)

spans = Table(
    "spans",
    metadata,
    Column("bucket", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("earliest", BigInteger, nullable=False),
    Column("latest", BigInteger, nullable=False),
)
