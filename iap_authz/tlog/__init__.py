# SPDX-License-Identifier: Apache-2.0
"""The transparency log as pure arithmetic: bytes and values in, bytes and values out.

It knows nothing of records, gRPC, clocks or disks. One tree is used twice, for each writer's own log and for the
audit log, and by whoever checks either. Read in this order:

    hashing      SHA-256 of leaves and nodes, and the types that keep look-alikes apart
    tree         the right edge of a tree (a compact range) and how it grows
    proof        inclusion, consistency and range proofs
    tiles        where each hash and entry lives (C2SP tlog-tiles)
    text, curve  strict base64 and decimals; which Ed25519 public keys are fit for use
    note         signed notes (C2SP signed-note)
    checkpoint   a signed tree head (C2SP tlog-checkpoint)
    cosign       what witnesses add to it (C2SP tlog-cosignature)
    receipt      the log's answer to a batch (rule X1)
    proof_file   a proof to keep for years (C2SP tlog-proof)
    edge, batch  the incomplete right edge, and every write of a round (rules C1, C2, B1)

This package exports nothing at its top: import the module that says what you mean.
"""
