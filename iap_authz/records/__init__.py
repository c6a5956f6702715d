# SPDX-License-Identifier: Apache-2.0
"""Records, and the log that each writer keeps of them: bytes and values in, bytes and values out.

Read in this order:

    wire             the top level of a protobuf message, read without a schema
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
    evidence         a record, and the proof that its writer made it (rule P2)

It opens no file, reads no clock and holds no private key.
"""
