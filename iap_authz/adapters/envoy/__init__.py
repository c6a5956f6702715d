# SPDX-License-Identifier: Apache-2.0
"""Envoy's ext_authz protocol: messages in, messages out, and the gRPC server between."""
