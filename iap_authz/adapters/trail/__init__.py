# SPDX-License-Identifier: Apache-2.0
"""The trail's database: the ledger of writers and batches, and the index of records, in one SQLite file.

tables      the schema, portable
store       `open_trail`: everything that is SQLite's own, and transactions
ledger      `SqlLedger`, which satisfies the port `Ledger`
terms       texts and ids that occur often, as small numbers
spans       which stretches of the log hold which times
index       `SqlIndex`, which satisfies the port `Index`
"""
