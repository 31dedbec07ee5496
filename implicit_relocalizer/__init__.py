# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Global localization from one camera image, learned from poses alone."""

import os

# OpenMP reads this when torch is first imported. By default its waiting threads spin, and on a
# busy robot a thread that spins for one that does not run makes small operations 10 to 50 times
# slower; a user's own setting wins.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
