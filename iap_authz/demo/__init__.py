# SPDX-License-Identifier: Apache-2.0
"""What a demonstration needs and a deployment does not: data made up on the spot."""
