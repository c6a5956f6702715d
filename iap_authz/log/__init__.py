# SPDX-License-Identifier: Apache-2.0
"""The audit log. Reading order: service -> writers -> sealing -> own_records -> sequencer -> commit -> recover."""
