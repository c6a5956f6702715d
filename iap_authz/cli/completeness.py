# SPDX-License-Identifier: Apache-2.0
"""What `iap-authz records completeness` says of a writer. Nothing is computed here."""

from collections.abc import Iterator

from iap_authz.records.completeness import NOT_PROVABLE, CompletenessReport, Tail


def report_in_words(report: CompletenessReport) -> Iterator[str]:
    """For people: what is proven of a writer, and what no log can prove."""
    yield f"writer        {report.writer.hex()}"
    claim = f"records [0, {report.size}) occur exactly once, in order"
    if report.holds:
        yield f"proven        {claim}, in the {report.log_size} leaves of the log"
        yield f"              {report.size} is the largest checkpoint of this writer in them"
    else:
        yield f"not proven    that {claim}"
        yield from (f"leaf {fault.index:<8} {fault.message}" for fault in report.faults)
    if report.retired_index is not None:
        yield f"retired       at leaf {report.retired_index}"
    yield f"end           {_TAILS[report.tail]}"
    yield f"not provable  {'; '.join(NOT_PROVABLE)}"


_TAILS = {
    Tail.STOPPED: "the writer ended with WriterStopped",
    Tail.SUCCEEDED: "the writer's successor names this checkpoint as its last",
    Tail.UNKNOWN: "tail unknown: no WriterStopped and no linked successor, it still runs or has died",
}


def report_as_json(report: CompletenessReport) -> dict[str, object]:
    """The same as JSON."""
    return {
        "holds": report.holds,
        "writer": report.writer.hex(),
        "records": report.size,
        "log_size": report.log_size,
        "registered_index": report.registered_index,
        "retired_index": report.retired_index,
        "tail": report.tail.value,
        "successor": None if report.successor is None else report.successor.hex(),
        "faults": [{"index": fault.index, "message": fault.message} for fault in report.faults],
        "writer_checkpoint": report.note.decode(),
        "not_provable": list(NOT_PROVABLE),
    }
