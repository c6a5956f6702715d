# SPDX-License-Identifier: Apache-2.0
"""A writer's own log: an RFC 6962 tree over its records, and one signed checkpoint a group commit (rule W3).

The invariant: one writer never signs two roots of one size, because a `WriterLog` only grows and its key dies with the
process (rule W1). Whoever holds the value before a commit that failed must end, not commit again (rule W4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iap_authz.model.ids import WriterId
from iap_authz.records.started import writer_id, writer_origin
from iap_authz.tlog.checkpoint import Checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import LeafHash, TreeSize
from iap_authz.tlog.note import NoteSigner
from iap_authz.tlog.tree import CompactRange


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterLog:
    """A writer's tree as it stands, and who signs for it."""

    tree: CompactRange
    signer: NoteSigner

    @property
    def size(self) -> TreeSize:
        """How many records there are."""
        return self.tree.end

    @property
    def writer(self) -> WriterId:
        """Whose log it is."""
        return writer_id(self.signer.public_key)

    def commit(self, leaves: Sequence[LeafHash]) -> tuple["WriterLog", bytes]:
        """The log with `leaves` after its last, and the signed note of its checkpoint there."""
        tree = self.tree.extend(leaves)
        checkpoint = Checkpoint(origin=self.signer.name, size=tree.end, root=tree.root())
        return WriterLog(tree=tree, signer=self.signer), sign_checkpoint(checkpoint, self.signer)


def start_writer_log(log_origin: str, public_key: bytes, *, sign: Callable[[bytes], bytes]) -> WriterLog:
    """The empty log of a new writer of the log `log_origin`. Raises Malformed if that is no origin."""
    name = writer_origin(log_origin, writer_id(public_key))
    return WriterLog(tree=CompactRange.empty(), signer=NoteSigner(name=name, public_key=public_key, sign=sign))
