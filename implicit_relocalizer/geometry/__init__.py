# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pure torch geometry without parameters: cameras, rigid transforms, alignment, refinement."""
