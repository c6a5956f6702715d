# SPDX-License-Identifier: Apache-2.0
"""Measurements. `python -m bench` (or `make bench`) runs all of them and prints one report.

Timings of one machine say little; ratios within one run, interleaved, say more. The denominator everywhere is an empty
`grpc.aio` reply: the same gRPC, the same event loop, the same load generator, nothing decided and nothing recorded.
"""
