# SPDX-License-Identifier: Apache-2.0
"""Where the audit log's bytes and its head are kept, each behind a port.

paths         which resources a tile store has: the grammar of their paths
files         the calls that change a disk, each of which may fail, and which file systems are refused
posix         `PosixTileStore`, a directory on a local disk
head_sqlite   `SqliteHeadStore`, one file of SQLite
"""
