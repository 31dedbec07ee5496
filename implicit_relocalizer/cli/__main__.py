# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m implicit_relocalizer.cli`."""

import sys

from implicit_relocalizer.cli import main

sys.exit(main())
