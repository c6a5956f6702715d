# SPDX-License-Identifier: Apache-2.0
"""iap-authz: decide each request from identity, device and location; keep every answer in a log that proves itself.

The map. A layer imports only what stands above it; `tests/repo/test_layers.py` enforces it.

    errors              the exception tree
    _pb                 generated from proto/
    1 pure              model  tlog  facts  policy  records      values in, values out
    2 ports             ports                                    what the services need, and what may be asked of them
    3 services          sidecar  log  trail  client              never one another, but all may use client
    4 adapters          adapters/*                               one outside thing each
    5 assembly          config  config_identity  config_credentials  config_tokens  config_certificate  config_seal
                        config_assertion  config_listen  log_config  bootstrap  demo  cli
                        wiring  identity_wiring  credential_wiring  policy_wiring  seal_wiring  assertion_wiring
                        shipping_wiring  log_wiring  privacy_wiring  key_wiring

Reading order for one check: adapters/envoy/server -> adapters/envoy/request -> sidecar/check -> sidecar/snapshot
-> facts -> policy/evaluate -> records/record -> adapters/journal -> sidecar/assertions -> adapters/envoy/response.

Reading order for a record onward: sidecar/shipper -> adapters/audit_grpc -> log/service -> log/writers -> log/sequencer
-> tlog/batch -> log/commit (the order of a round, told as crash states) -> log/recover -> log/restart; back at the
sidecar: client/view (what is believed, and why) -> sidecar/lanes -> adapters/journal/backlog (what is trimmed).

Reading order for who asks the log: client/log -> log/proofs, trail/records -> records/log_evidence -> cli/verify.

Reading order for personal data: records/seal -> sidecar/subject_keys (whose key) -> log/beside (what stands beside a
leaf) -> trail/indexer, records/tokens (how it is found) -> trail/privacy (who may open it) -> trail/erasure.
"""

__version__ = "0.1.0"
