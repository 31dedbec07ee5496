# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters without ROS: from files and arguments as ROS 2 has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from implicit_relocalizer.localization.parameter_table import PARAMETERS, ParameterEntry
from implicit_relocalizer.localization.parameters import (
    ParameterError,
    Parameters,
    make_parameters,
)
from implicit_relocalizer.localization.recorded_topics import NODE_NAME

_ENTRIES = {entry.name: entry for entry in PARAMETERS}
_OF_ROS = ('use_sim_time',)  # every node's, and without a meaning here
_TYPE_NAMES = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}


def read_parameter_file(path: Path) -> dict[str, Any]:
    """What a parameter file sets for the node, in any namespace.

    Args:
        path: YAML of `NODE: ros__parameters: NAME: VALUE`, where NODE is the node's name, with
            or without a namespace, or a wildcard such as `/**`.

    Raises:
        ParameterError: it is no such file, or has no parameters for the node.
        OSError: it cannot be read.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f'{path}: not a YAML file: {" ".join(str(error).split())}') from error
    values: dict[str, Any] = {}
    blocks = list(_find_blocks(tree, is_ours=False))
    if not blocks:
        raise ParameterError(f"{path}: has no parameters for the node '{NODE_NAME}'; expected "
                             f"'/**:' or '{NODE_NAME}:', below that 'ros__parameters:', below "
                             f'that names and values')
    for block in blocks:
        if not isinstance(block, dict):
            raise ParameterError(f'{path}: ros__parameters holds {block!r}, no names and values')
        values.update(block)
    return {str(name): value for name, value in values.items()}


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Values of `NAME:=VALUE`, as `--ros-args -p` takes them.

    Raises:
        ParameterError: one is not of that form.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition(':=')
        if not separator or not name:
            raise ParameterError(f"'{assignment}': expected NAME:=VALUE, such as mode:=startup")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ParameterError(f"'{assignment}': {' '.join(str(error).split())}") from error
    return values


def parameters_of(given: Mapping[str, Any], source: str) -> Parameters:
    """The parameters with these values and the defaults of all others.

    Args:
        given: By name.
        source: Where they are from, for messages.

    Raises:
        ParameterError: no such parameter, or a value that the node would refuse: of another type
            (an integer for a double, too), out of range, or none of the choices.
    """
    values: dict[str, Any] = {entry.name: entry.default for entry in PARAMETERS}
    for name, value in given.items():
        if name in _OF_ROS:
            continue
        if name not in _ENTRIES:
            raise ParameterError(f"{source}: the node has no parameter '{name}'; it has "
                                 f'{", ".join(sorted(_ENTRIES))}')
        problem = _find_problem(_ENTRIES[name], value)
        if problem:
            raise ParameterError(f"{source}: parameter '{name}' is {value!r}, {problem}")
        values[name] = value
    try:
        return make_parameters(values)
    except ParameterError as error:
        raise ParameterError(f'{source}: {error}') from None


def _find_problem(entry: ParameterEntry, value: Any) -> str:
    """Why a value cannot be used by its type or range; empty if it can."""
    kind, wanted = type(value), type(entry.default)
    if kind is not wanted:
        remedy = f', write {value}.0' if wanted is float and kind is int else ''
        return f'expected a {_TYPE_NAMES[wanted]}{remedy}'
    if entry.limits is not None and not entry.limits[0] <= value <= entry.limits[1]:
        return f'allowed are {entry.limits[0]:g} to {entry.limits[1]:g}'
    return ''


def _find_blocks(tree: object, is_ours: bool) -> Iterator[Any]:
    """Blocks of parameters for the node, in the order of the file."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == 'ros__parameters':
            if is_ours:
                yield value
        else:
            yield from _find_blocks(value, str(key).rpartition('/')[2] in (NODE_NAME, '*', '**'))
