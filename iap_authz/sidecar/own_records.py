# SPDX-License-Identifier: Apache-2.0
"""The one way in which the service records what it did or saw itself: always in the journal's reserve."""

from google.protobuf.message import Message

from iap_authz.model.ids import Sequence, WriterId
from iap_authz.ports import Appended, Clock, Journal
from iap_authz.records.record import new_record_id, service_record
from iap_authz.records.room import Room


def append_own(journal: Journal, clock: Clock, body: Message) -> Appended:
    """Give `body` the next place in the journal. Raises JournalFull or OSError like the journal."""

    def build(writer: WriterId, sequence: Sequence) -> bytes:
        return service_record(body, writer=writer, sequence=sequence, record_id=new_record_id(), time=clock.now())

    return journal.append_nowait(build, room=Room.RESERVE)
