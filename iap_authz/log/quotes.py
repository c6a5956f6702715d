# SPDX-License-Identifier: Apache-2.0
"""What others say of this log: a checkpoint that we signed has to lie on our tree (rule G4).

The invariant: a checkpoint that `check` returned is a prefix of the tree as it is now. One that we signed and that is
larger than the tree, or has another root, proves that there are two trees: the log freezes and keeps the notes.
"""

from collections import OrderedDict
from collections.abc import Sequence

from iap_authz.errors import LogFrozen, Malformed
from iap_authz.log.sequencer import Sequencer
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint_of
from iap_authz.tlog.note import VerifierKey

QUOTES_KEPT = 4_096
"""Checked notes that are kept: each writer quotes the same one until it has a newer."""

NOTE_MAX_BYTES = 16_384
"""A checkpoint with a few keys' and a hundred witnesses' signatures; notes are kept, so junk must not fill memory."""


class Quotes:
    """Checks quoted checkpoints. Owned by the event loop."""

    def __init__(self, sequencer: Sequencer, verifiers: Sequence[VerifierKey]) -> None:
        self._sequencer = sequencer
        self._verifiers = verifiers
        self._checked: OrderedDict[bytes, Checkpoint] = OrderedDict()

    async def check(self, note: bytes) -> Checkpoint | None:
        """The quoted checkpoint; None if there is none. Raises Malformed, BadSignature, or LogFrozen after freezing."""
        if not note:
            return None
        if note in self._checked:
            self._checked.move_to_end(note)
            return self._checked[note]
        if len(note) > NOTE_MAX_BYTES:
            raise Malformed(f"got a quoted checkpoint of {len(note)} bytes, want at most {NOTE_MAX_BYTES}")
        checkpoint = open_checkpoint_of(note, self._verifiers)
        ours = self._sequencer.reader.view.signed
        if checkpoint.size > ours.checkpoint.size:
            because = f"a writer holds a checkpoint at {checkpoint.size} and the head is at {ours.checkpoint.size}"
            await self._freeze(f"{because}: an older copy of this log was put back", note)
        if checkpoint.size and await self._sequencer.reader.root_at(checkpoint.size) != checkpoint.root:
            await self._freeze(f"a writer holds another root at size {checkpoint.size}: there are two trees", note)
        self._checked[note] = checkpoint
        if len(self._checked) > QUOTES_KEPT:
            self._checked.popitem(last=False)
        return checkpoint

    async def _freeze(self, because: str, note: bytes) -> None:
        await self._sequencer.freeze(because, [self._sequencer.reader.view.signed.note, note])
        raise LogFrozen(f"the log is frozen: {because}")
