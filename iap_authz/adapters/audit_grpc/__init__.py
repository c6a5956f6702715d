# SPDX-License-Identifier: Apache-2.0
"""The audit log's own protocol, `iap.audit.v1`, over gRPC: the server's side of it."""
