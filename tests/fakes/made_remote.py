# SPDX-License-Identifier: Apache-2.0
"""A `MadeLog` at the other end of a client, in this process: the questions that the commands ask, answered honestly.

`change` may turn each answer into another one before it is given: what a log that lies, or loses leaves, says.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Self, TypeVar

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import LogUnavailable, NotFound, Refused
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.made_log import MadeLog

M = TypeVar("M", bound=Message)


class MadeRemote:
    """Satisfies what `AuditLogClient` and the commands ask of a `LogChannel`. Signed is every size in `signed`."""

    def __init__(self, log: MadeLog) -> None:
        self.log = log
        self.signed = set(range(1, log.size + 1))
        self.down = False
        self.change: Callable[[Message], None] = lambda _: None
        self.page_max = 1_000
        self.said: dict[int, log_pb2.Unsealed] = {}
        self.asked: list[Message] = []
        self.token = ""

    def connect(self, _address: str, *, token: str = "") -> Self:
        """In the place of a LogChannel: the log whatever the address, and who asks it."""
        self.token = token
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        pass

    def _given(self, answer: M) -> M:
        if self.down:
            raise LogUnavailable("the log answered UNAVAILABLE: 'connection refused'")
        self.change(answer)
        return answer

    def _add_own(self, body: Message) -> int:
        """One more leaf of the log's own, signed."""
        index = self.log.add_own(body)
        self.signed.add(self.log.size)
        return index

    def _note(self, size: int) -> bytes:
        return self.log.note(size) if size in self.signed else b""

    async def get_checkpoint(self, _: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        return self._given(log_pb2.GetCheckpointResponse(checkpoint=self._note(self.log.size)))

    async def prove_inclusion(self, request: log_pb2.GetInclusionProofRequest) -> log_pb2.GetInclusionProofResponse:
        index, size = request.index, request.tree_size
        if request.WhichOneof("leaf") == "leaf_hash":
            index = self._find(lambda leaf: leaf_hash(leaf) == request.leaf_hash)
        proof = self.log.tree().path(index, size)
        return self._given(log_pb2.GetInclusionProofResponse(index=index, tree_size=size, proof=proof))

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        proof = self.log.tree().proof(request.old_size, request.new_size)
        return self._given(log_pb2.GetConsistencyProofResponse(proof=proof, checkpoint=self._note(request.new_size)))

    async def prove_range(self, request: log_pb2.GetRangeProofRequest) -> log_pb2.GetRangeProofResponse:
        proof = self.log.tree().outside(request.first, request.first + request.count, request.tree_size)
        return self._given(log_pb2.GetRangeProofResponse(tree_size=request.tree_size, proof=proof))

    async def get_record(self, request: log_pb2.GetRecordRequest) -> log_pb2.GetRecordResponse:
        match request.WhichOneof("which"):
            case "audit_id":
                index = self._find(lambda leaf: leaf_hash(leaf) == request.audit_id)
            case "position":
                wanted = request.position.writer, request.position.sequence
                index = self._find(lambda leaf: (parse_record(leaf).writer, parse_record(leaf).sequence) == wanted)
            case _:
                index = request.index
        if index >= self.log.size:
            raise NotFound(f"got leaf index {index}, want one below {self.log.size}")
        return self._given(self._found(index, with_evidence=request.with_evidence))

    async def unseal(self, request: log_pb2.UnsealRequest) -> log_pb2.UnsealResponse:
        """Says of each leaf what is in `said`, or that it is not sealed; to whoever has the token `investigator`."""
        self.asked.append(request)
        if self.token != "investigator":
            raise Refused("the log answered PERMISSION_DENIED: 'want one with the role investigator'")
        asked = list(request.indices)
        body = record_pb2.LogRead(method="Unseal", from_index=min(asked), to_index=max(asked) + 1, records=len(asked))
        body.unsealed = sum(one in self.said and self.said[one].outcome == log_pb2.Unsealed.OPENED for one in asked)
        answer = log_pb2.UnsealResponse(log_read=self._add_own(body))
        for index in asked:
            one = self.said.get(index, log_pb2.Unsealed(outcome=log_pb2.Unsealed.NOT_SEALED))
            answer.records.add(index=index, outcome=one.outcome, opening=one.opening)
        return self._given(answer)

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        """For whoever has the token `admin`."""
        self.asked.append(request)
        if self.token != "admin":
            raise Refused("the log answered PERMISSION_DENIED: 'want one with the role admin'")
        body = record_pb2.WriterRetired(writer=request.writer, cause=request.cause)
        return self._given(log_pb2.RetireWriterResponse(index=self._add_own(body)))

    async def list_writers(self, request: log_pb2.ListWritersRequest) -> log_pb2.ListWritersResponse:
        """One writer a page; the token is the number of those already given."""
        writers, begin = sorted(self.log.registered), int(request.page_token or 0)
        answer = log_pb2.ListWritersResponse(next_page_token=str(begin + 1) if begin + 1 < len(writers) else "")
        for writer in writers[begin : begin + 1]:
            size = sum(parse_record(leaf).writer == writer for leaf in self.log.leaves)
            answer.writers.add(
                writer=writer, workload="orders", size=size, registered_index=self.log.registered[writer]
            )
        return self._given(answer)

    async def get_entries(self, request: log_pb2.GetEntriesRequest) -> AsyncIterator[log_pb2.Entry]:
        for index in range(request.first, request.first + request.count):
            yield self._given(log_pb2.Entry(index=index, record=self.log.leaves[index]))

    async def search_records(self, request: log_pb2.SearchRecordsRequest) -> log_pb2.SearchRecordsResponse:
        """Filters are bodies, writer and verdicts only; a page token is the number of records already given."""
        found = list(self._matching(request))[:: -1 if request.newest_first else 1]
        begin = int(request.page_token or 0)
        end = begin + min(request.page_size or 100, self.page_max)
        answer = log_pb2.SearchRecordsResponse(
            records=[self._found(index, with_evidence=False) for index in found[begin:end]],
            indexed_size=self.log.size,
            next_page_token=str(end) if end < len(found) else "",
        )
        return self._given(answer)

    async def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncIterator[log_pb2.Entry]:
        """What matches now; then it ends as if by Ctrl-C."""
        for index in self._matching(request.filter):
            if index > request.after_index:
                yield self._given(log_pb2.Entry(index=index, record=self.log.leaves[index]))
        raise KeyboardInterrupt

    def _matching(self, request: log_pb2.SearchRecordsRequest) -> Iterator[int]:
        for index, leaf in enumerate(self.log.leaves):
            record = parse_record(leaf)
            if request.bodies and record.WhichOneof("body") not in request.bodies:
                continue
            if request.writer and record.writer != request.writer:
                continue
            if not request.verdicts or record.decision.verdict in request.verdicts:
                yield index

    def _found(self, index: int, *, with_evidence: bool) -> log_pb2.GetRecordResponse:
        entry = log_pb2.Entry(index=index, record=self.log.leaves[index])
        evidence = self.log.evidence(index) if with_evidence else None
        return log_pb2.GetRecordResponse(entry=entry, evidence=evidence)

    def _find(self, holds: Callable[[bytes], bool]) -> int:
        for index, leaf in enumerate(self.log.leaves):
            if holds(leaf):
                return index
        raise NotFound("got no such leaf")
