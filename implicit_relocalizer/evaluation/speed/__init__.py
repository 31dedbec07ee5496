# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What an answer costs on this machine, step by step and beside its rivals, as ratios."""
