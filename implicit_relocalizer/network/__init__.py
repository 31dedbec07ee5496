# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Encoders, point heads, the end-to-end localizer and its model file."""
