# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's decisions on a recording, faster than real time and without ROS."""
