# SPDX-License-Identifier: Apache-2.0
"""The tables of what stands beside sealed leaves (rules S2, S5, S6): the only part of a trail that is not derived.

The invariant: rows are appended in rising order and never deleted, and what changes in one has the same length before
and after. SQLite then overwrites a row where it stands, and appends never move one: no older copy of it is left in a
page. So numbers that change are big-endian bytes here, since SQLite stores a number in as few bytes as it needs.

    subject_keys   one row for each distinct companion of a writer
        number       1, 2, 3, ... in the order of their arrival
        digest       SHA-256(writer || companion), the first 16 bytes; stays, so that a copy that comes later is known
        writer       32 bytes
        companion    as it came, zeros once erased
        sealed       the subject key, 80 bytes, as it is sealed now (rule S7); zeros once erased
        vault_epoch  u32, the one that `sealed` is sealed to; seal_epoch u64, of the companion
        erasure      16 bytes, zeros where there is none
    companions     one row for each sealed leaf
        log_index    the leaf
        key          u64, the number of its subject key; 0 once an Erasure record covers it
        salt         32 bytes: of the companion's hash; once covered, of the leaf's hash in the Erasure record (S8)
        erasure      16 bytes, zeros where there is none
        late         1 in a row that came after its key had been erased, until an Erasure record covers it
        round        u32, which of its erasure's records covers it, from 1 on; 0 while none does
    seal_epochs    one row: the seal epoch and the vault epoch in force; `checksum` over the row

File format: SQLite, "Database File Format", sections 1.6 and 2.1.
"""

from struct import Struct

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, text

from iap_authz.adapters.trail.tables import ROW_NUMBER, metadata

U32, U64 = Struct(">I"), Struct(">Q")
"""How numbers that change are kept."""

KEY_DIGEST_BYTES = 16
"""Nobody finds two companions of one digest, and who does so for their own harms only themselves."""

NO_KEY = U64.pack(0)
"""In the place of a key's number in a row that an Erasure record covers."""

subject_keys = Table(
    "subject_keys",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(KEY_DIGEST_BYTES), nullable=False, unique=True),
    Column("writer", LargeBinary(32), nullable=False),
    Column("companion", LargeBinary, nullable=False),
    Column("sealed", LargeBinary(80), nullable=False),
    Column("vault_epoch", LargeBinary(U32.size), nullable=False),
    Column("seal_epoch", LargeBinary(U64.size), nullable=False),
    Column("erasure", LargeBinary(16), nullable=False),
)
Index("subject_keys_by_epoch", subject_keys.c.erasure, subject_keys.c.vault_epoch)

companions = Table(
    "companions",
    metadata,
    Column("log_index", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("key", LargeBinary(U64.size), nullable=False),
    Column("salt", LargeBinary(32), nullable=False),
    Column("erasure", LargeBinary(16), nullable=False),
    Column("late", Integer, nullable=False),
    Column("round", LargeBinary(U32.size), nullable=False),
)
IS_ERASED = text("companions.erasure <> zeroblob(16)")
"""Of a companion: name it beside `erasure = ...`, and the index of the few that are erased is used."""

Index(
    "companions_by_erasure", companions.c.erasure, companions.c.log_index, sqlite_where=text("erasure <> zeroblob(16)")
)

seal_epochs = Table(
    "seal_epochs",
    metadata,
    Column("id", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("seal_epoch", BigInteger, nullable=False),
    Column("vault_epoch", BigInteger, nullable=False),
    Column("checksum", LargeBinary(16), nullable=False),
)

KEY_MARK_BYTES = 16

key_marks = Table(
    "key_marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("mark", LargeBinary(KEY_MARK_BYTES), nullable=False),
)
