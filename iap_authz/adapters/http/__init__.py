# SPDX-License-Identifier: Apache-2.0
"""HTTP: what is published for everybody to read, a log's tiles and checkpoint or the keys of assertions."""
