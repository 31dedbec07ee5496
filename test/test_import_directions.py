# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: downwards only, ROS in ros/ alone, a lean node."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

PACKAGE = 'implicit_relocalizer'
FOLDER = Path(__file__).resolve().parents[1] / PACKAGE

# A folder may import from those of smaller rank and from itself. Modules at the top (cli, demo)
# may import everything; `resources` imports nothing and may be imported by all.
RANK = {'geometry': 0, 'data': 1, 'network': 1, 'training': 2, 'evaluation': 2,
        'localization': 2, 'ros': 3, 'replay': 3}
FREE = {'resources'}
ROS_MODULES = {'rclpy', 'cv_bridge', 'tf_transformations', 'launch', 'launch_ros',
               'ament_index_python', 'rcl_interfaces', 'rosgraph_msgs', 'builtin_interfaces',
               'std_srvs', 'message_filters'}

FILES = sorted(FOLDER.rglob('*.py'))


def name_of(path: Path) -> str:
    parts = path.relative_to(FOLDER.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {name_of(path): path for path in FILES}


def imports_of(path: Path) -> set[str]:
    """Names of the modules that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name_of(path).split('.') if node.level else []
            kept = len(package) - node.level + (path.name == '__init__.py')
            module = '.'.join([*package[:kept], *([node.module] if node.module else [])])
            found.update(f'{module}.{alias.name}' if f'{module}.{alias.name}' in MODULES
                         else module for alias in node.names)
    return found


def part_of(module: str) -> str:
    """The folder, or the top module, of a module of ours; empty for the package itself."""
    return [*module.split('.'), ''][1]


def is_ros(module: str) -> bool:
    top = module.split('.')[0]
    return top in ROS_MODULES or top.endswith('_msgs') or top.startswith('tf2_')


def closure(module: str) -> set[str]:
    """All modules of ours that importing a module brings along."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current not in seen and current in MODULES:
            seen.add(current)
            parents = ['.'.join(current.split('.')[:n]) for n in range(1, current.count('.') + 1)]
            waiting += [*imports_of(MODULES[current]), *parents]
    return seen


def goes_downwards(part: str, module: str) -> bool:
    other = part_of(module)
    if module.split('.')[0] != PACKAGE or other in ('', part) or other in FREE:
        return True
    if part in FREE:
        return False
    return part not in RANK or (other in RANK and RANK[other] < RANK[part])


def violations(allowed: Callable[[str, str], bool]) -> list[str]:
    """'who imports whom' of every import that is not allowed to a part."""
    return [f'{name} imports {module}' for name, path in MODULES.items()
            for module in sorted(imports_of(path)) if not allowed(part_of(name), module)]


def test_imports_go_downwards():
    assert violations(goes_downwards) == []


def test_ros_is_imported_in_ros_alone():
    assert violations(lambda part, module: part == 'ros' or not is_ros(module)) == []


def test_geometry_and_network_are_free_of_numpy():
    assert violations(lambda part, module: part not in ('geometry', 'network')
                      or module.split('.')[0] != 'numpy') == []


def test_a_robot_that_only_localizes_needs_no_training_and_no_data():
    lean = [name for name in MODULES if part_of(name) == 'localization' or (
        part_of(name) == 'ros' and not name.split('.')[-1].startswith('drive_'))]
    assert f'{PACKAGE}.ros.node' in lean
    for name in lean:
        brought = {module for module in closure(name)
                   if part_of(module) in ('training', 'data', 'evaluation')}
        assert not brought, f'{name} brings {sorted(brought)}'


def test_the_rules_see_imports_inside_functions(tmp_path):
    source = tmp_path / 'probe.py'
    source.write_text('def f():\n    import rclpy.node\n    from numpy import array\n')
    assert imports_of(source) == {'rclpy.node', 'numpy'}
    assert is_ros('rclpy.node') and is_ros('tf2_ros') and not is_ros('rosbags')
    assert not goes_downwards('network', f'{PACKAGE}.training.losses')
    assert not goes_downwards('data', f'{PACKAGE}.network.heads')
    assert not goes_downwards('localization', f'{PACKAGE}.cli')
    assert goes_downwards('ros', f'{PACKAGE}.localization.estimate')
