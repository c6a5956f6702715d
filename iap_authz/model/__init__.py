# SPDX-License-Identifier: Apache-2.0
"""What all other layers speak of: facts, requests, decisions, reasons. Values only."""
