# SPDX-License-Identifier: Apache-2.0
"""Records, and the log that each writer keeps of them: bytes and values in, bytes and values out.

Read in this order:

    wire             the top level of a protobuf message, read without a schema
    hpke             how a subject key is sealed to the vault
    seal             the personal part of a record, sealed and opened (rules S1 to S3)
    seal_settings    how writers shall seal, signed by the log (rule S5)
    tokens           what the log's index has in place of what is sealed (rule S9)
    personal         what a record says of a person, put in its one place
    record           records made and read; the audit id
    too_large        what a refusal keeps of facts that do not fit in a record
    started          record 0: the writer's key and the proof that it has it (rule W2)
    writerlog        the writer's tree and its signed checkpoints (rule W3)
    journal_format   the bytes of a journal segment
    room             who may still write when the journal fills (rule R2)
    findings         what an inspection says
    repair           which single byte explains a damaged frame
    group            one group commit, recomputed
    inspect          a writer's whole journal, recomputed
    journaled        what is shipped of a journal
    log_leaves       the leaves that the audit log makes itself (rule P1)
    log_fold         the log's leaves folded into the states of its writers (rules A4, W5)
    admission        what the log takes from a writer (rules W2, W5, A1)
    log_evidence     the log's half of evidence, and how the log makes the whole of it
    evidence         a record, and the proof that its writer made it and that it is logged (rule P2)
    unsealed         what the log says of sealed records, held against the records themselves (rules S1, S8)
    completeness     whether a log holds each record of a writer exactly once (rule O1)
    consistency_file  two checkpoints of a log, and the proof between them
    log_inspect      a log's files, recomputed; log_inspect_* are its parts

It opens no file and reads no clock; a key is an argument.
"""
