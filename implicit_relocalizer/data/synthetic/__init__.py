# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A furnished room rendered on the CPU, with a robot's drives through it and exact poses."""

from implicit_relocalizer.data.synthetic.synthesize import synthesize

__all__ = ['synthesize']
