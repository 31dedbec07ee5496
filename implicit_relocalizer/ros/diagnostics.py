# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's state as a diagnostic message."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from implicit_relocalizer.localization.diagnostics import Status


def diagnostic_msg(stamp: Time, status: Status) -> DiagnosticArray:
    """The message of one status."""
    return DiagnosticArray(header=Header(stamp=stamp), status=[DiagnosticStatus(
        level=bytes([status.level]), name=status.name, message=status.message,
        hardware_id=status.hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in status.values.items()])])
