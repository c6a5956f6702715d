# SPDX-License-Identifier: Apache-2.0
"""Where facts come from: files that are read whole and swapped whole (`ports.FactSource`)."""
