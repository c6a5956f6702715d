# SPDX-License-Identifier: Apache-2.0
"""The policy: files of the operator in, one `Decision` per `Facts` out. Pure; CEL is the only thing it trusts.

Reading order

    source       the values of a parsed file
    patterns     hosts, paths, header names, redirect addresses: text -> value, strict
    parse        YAML -> source, every fault with its place
    canonical    source -> the bytes whose SHA-256 names the bundle, and back
    environment  CEL: the two environments, compile, CEL's complaints in words
    reads        the checked expression -> what a condition reads, and what no condition may do
    place        an offset in a condition -> line and column of the file
    condition    one text with its levels -> one expression over `facts`, and what it reads
    routes       (method, host, segments) -> the most specific route
    compiled     the values that all this ends in: `Policy`, `Route`, `Rule`, `Condition`
    compile      source -> `Policy`: `load_policy`
    bundle       canonical bytes -> `Policy`, and the chunks that a log keeps of them
    presence     facts -> what is absent or unknown of what a route reads
    evaluate     the table: `Policy`, `Facts` -> `Decision`

Absent is not false: a condition whose paths are not known is never asked of CEL (see `presence`).
"""
