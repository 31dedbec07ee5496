# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters with ROS: declared with type, range and description, read, changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from implicit_relocalizer.localization.parameter_table import PARAMETERS, ParameterEntry
from implicit_relocalizer.localization.parameters import (
    Parameters,
    find_refusal,
    make_parameters,
)

_ENTRIES = {entry.name: entry for entry in PARAMETERS}


def declare_parameters(node: Node) -> None:
    """Declare every parameter; a value of the wrong type or out of range is refused by rclpy."""
    node.declare_parameters('', [(entry.name, entry.default, _descriptor(entry))
                                 for entry in PARAMETERS])


def read_parameters(node: Node) -> Parameters:
    """Read the declared parameters.

    Raises:
        ParameterError: a value is none of the allowed.
    """
    return make_parameters({name: node.get_parameter(name).value
                            for name in Parameters.__dataclass_fields__})


def judge_changes(changes: Iterable[Parameter], current: Mapping[str, object],
                  is_configured: bool) -> SetParametersResult:
    """Whether these changes may be made, all of them or none.

    Args:
        changes: What is asked for.
        current: The values as they are; setting one to what it is changes nothing.
        is_configured: Whether a model is loaded.
    """
    changes = list(changes)
    reason = find_refusal((change.name, change.value) for change in changes)
    for change in changes:
        entry = _ENTRIES.get(change.name)
        if (not reason and entry is not None and is_configured and not entry.at_run_time
                and change.value != current.get(change.name)):
            reason = (f"parameter '{change.name}' holds while the node is configured; deactivate "
                      f'it and clean it up first')
    return SetParametersResult(successful=not reason, reason=reason)


def _descriptor(entry: ParameterEntry) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=entry.description)
    if entry.choices:
        descriptor.additional_constraints = f'one of {", ".join(entry.choices)}'
    if entry.limits is not None:
        least, most = entry.limits
        if isinstance(entry.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(least), to_value=int(most))]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(least), to_value=float(most))]
    return descriptor
