# SPDX-License-Identifier: Apache-2.0
"""The table of index tokens (rule S9): which leaves have which token. Derived from leaves that were opened.

The invariant: nothing here can be read by whoever has not the index key: a token is a keyed hash, and it does not say
of what kind of value.

    block     index >> 16: the stretches of 65,536 leaves that the table is ordered by
    token     a signed 64-bit number (`records.tokens`)
    chunk     index & 0xffff of the first leaf that was added together with these
    offsets   (u16 index & 0xffff)+, big-endian, rising: the leaves of that addition that have the token

The order is by block first, on purpose. Tokens are random: a table in their order would be written all over by each
addition. So inserts go to the end of the table, and a search looks into each block, and stops when it has enough.
"""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table

from iap_authz.adapters.trail.tables import metadata

postings = Table(
    "postings",
    metadata,
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    Column("chunk", Integer, primary_key=True, autoincrement=False),
    Column("offsets", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
