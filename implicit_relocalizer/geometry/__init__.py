# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pure torch geometry without parameters: cameras, rigid transforms, alignment, refinement.

Every function is batched, differentiable, free of side effects on its inputs, scriptable by
torch.jit.script, and the same on CPU and GPU. Coordinates want float32 or float64.
"""
