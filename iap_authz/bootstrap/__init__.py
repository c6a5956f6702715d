# SPDX-License-Identifier: Apache-2.0
"""Envoy's configuration, typed: settings in, a whole bootstrap out. No I/O; the command line and the demo use it."""
