# SPDX-License-Identifier: Apache-2.0
"""The sidecar: one snapshot of what is known, one exit for every check, refreshers that push new snapshots."""
