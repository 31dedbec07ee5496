# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Frames and scenes, readers, augmentation and the synthetic place."""
