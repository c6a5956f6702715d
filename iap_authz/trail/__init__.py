# SPDX-License-Identifier: Apache-2.0
"""The trail: records read, found and followed. It writes nothing but its index.

leaves      `LeafSource`, where the log's bytes come from, and how they are read in few calls
match       the one predicate of a search, and what a search may ask for
paging      page sizes and page tokens
records     `Trail`, which satisfies the port `TrailService`
indexer     `Indexer`, which keeps the index up to the log
worker      the one thread that waits for the database
"""
