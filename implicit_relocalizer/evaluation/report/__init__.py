# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One self-contained page about a result: `page.render_page` of what others fill in."""
