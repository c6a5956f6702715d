# SPDX-License-Identifier: Apache-2.0
"""The tables of erasures and legal holds (rules S5, S8).

The invariant: what could still tell whose an erasure or a hold is stands in tables of its own, whose rows are only
appended and then overwritten with zeros of the same length, as in `seal_tables`.

    erasures         one row an erasure: its id, stage, seal epoch, authority, officers (JSON), when it was asked for
    erasure_secrets  number -> whose, secret (`records.erasure`); zeros at the end
    erasure_rounds   one row an Erasure record: the tree it looked through, how many records, their root, how far it is;
                     log_index -1: not known to be in the log
    erasure_plans    round -> leaves, u64 each, 1,024 in a row; gone when the round is finished
    holds            one row a hold: its id, authority, matter, officers; log_index as above
    hold_scopes      number -> scope, sealed to the vault epoch (u32); zeros once released
"""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table

from iap_authz.adapters.trail.tables import ROW_NUMBER, metadata

erasures = Table(
    "erasures",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("erasure", LargeBinary(16), nullable=False, unique=True),
    Column("stage", Integer, nullable=False),
    Column("seal_epoch", BigInteger, nullable=False),
    Column("authority", String, nullable=False),
    Column("officers", String, nullable=False),
    Column("asked", BigInteger, nullable=False),
)

erasure_secrets = Table(
    "erasure_secrets",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("whose", LargeBinary(56), nullable=False),
    Column("secret", LargeBinary(32), nullable=False),
)

erasure_rounds = Table(
    "erasure_rounds",
    metadata,
    Column("id", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("erasure", LargeBinary(16), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("log_size", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("log_index", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("finished", Integer, nullable=False),
)

erasure_plans = Table(
    "erasure_plans",
    metadata,
    Column("round", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("leaves", LargeBinary, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("hold", LargeBinary(16), nullable=False, unique=True),
    Column("authority", String, nullable=False),
    Column("matter", String, nullable=False),
    Column("officer", String, nullable=False),
    Column("log_index", BigInteger, nullable=False),
    Column("release_authority", String, nullable=False),
    Column("released_by", String, nullable=False),
    Column("releasing", Integer, nullable=False),
    Column("released", Integer, nullable=False),
)

hold_scopes = Table(
    "hold_scopes",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("scope", LargeBinary, nullable=False),
    Column("vault_epoch", LargeBinary(4), nullable=False),
)
