# SPDX-License-Identifier: Apache-2.0
"""Signing keys, each behind the port `Signer`."""
