# SPDX-License-Identifier: Apache-2.0
"""The writer's journal on a local disk.

disk        the calls that change a disk, each of which may fail
directory   the lock, the writers that were here before, and their recovery
reading     segments of a writer, one at a time
segments    the files of one writer: the current segment and the next, preallocated one
committer   the one thread that waits for the disk
space       what the files take, and what the disk has given for more
mark        from which record on a new segment was asked for
files       `FileJournal`, which satisfies the port
groups      a writer's group commits, read in order
backlog     what is yet to be shipped, and how it leaves
"""
