# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One reader per format; `data.scenes` lists them and picks the one that fits."""
