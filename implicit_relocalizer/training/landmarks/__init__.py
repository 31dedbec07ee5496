# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The landmark head's training: from posed keypoints, without gradients, in a minute or two."""
