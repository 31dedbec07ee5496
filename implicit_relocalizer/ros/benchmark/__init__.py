# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node over DDS, measured: latency, load and memory, as processes of their own.

`dds` and `soak` are for programs; they import no ROS, which the processes that they start do.
"""
