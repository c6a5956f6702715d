# SPDX-License-Identifier: Apache-2.0
"""HTTP: what the audit log publishes for everybody to read, tiles and checkpoint."""
