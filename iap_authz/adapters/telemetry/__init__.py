# SPDX-License-Identifier: Apache-2.0
"""What operators see of a running process."""
