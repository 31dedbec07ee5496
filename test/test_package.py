# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The package for colcon and for pip: what lands where, and that its papers agree."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

NAME = 'implicit_relocalizer'
PROGRAMS = {'relocalizer', 'train', 'implicit-relocalizer'}

# Modules whose rosdep key has another name.
KEYS = {'PIL': 'python3-pil', 'cv2': 'python3-opencv', 'yaml': 'python3-yaml',
        **{name: f'python3-{name}' for name in (
            'matplotlib', 'numpy', 'psutil', 'scipy', 'torch', 'torchvision', 'tqdm')}}
# Not for the robot: the demo's drive and renderer. The messages come with rclpy.
NO_DEPENDENCY = {'pyvista', 'rerun', 'rosbags', 'vtk', 'vtkmodules', 'builtin_interfaces',
                 'rcl_interfaces'}


@pytest.fixture(scope='module')
def tree(repository, tmp_path_factory) -> Path:
    """A copy of the sources, so that building leaves nothing in the checkout."""
    target = tmp_path_factory.mktemp('source') / NAME
    target.mkdir()
    for name in ('setup.py', 'setup.cfg', 'package.xml', 'LICENSE'):
        shutil.copy(repository / name, target)
    for name in (NAME, 'resource', 'launch', 'config'):
        shutil.copytree(repository / name, target / name,
                        ignore=shutil.ignore_patterns('__pycache__'))
    return target


@pytest.fixture(scope='module')
def manifest(repository) -> ElementTree.Element:
    return ElementTree.parse(repository / 'package.xml').getroot()


def run_setup(tree: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, 'setup.py', '-q', *arguments], cwd=tree, text=True,
                          capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def query(repository: Path, *options: str) -> list[str]:
    """What setup.py says of itself."""
    done = subprocess.run([sys.executable, 'setup.py', *options], cwd=repository, text=True,
                          capture_output=True, timeout=60, check=True)
    return done.stdout.split()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_ros_finds_programs_and_files_where_colcon_installs(tree, repository):
    prefix = tree.parent / 'prefix'
    run_setup(tree, 'install', '--prefix', str(prefix), '--single-version-externally-managed',
              '--record', str(tree.parent / 'record.txt'))
    assert names(prefix / 'lib' / NAME) == PROGRAMS
    share = prefix / 'share'
    assert (share / 'ament_index' / 'resource_index' / 'packages' / NAME).is_file()
    assert {'package.xml', 'launch', 'config'} <= names(share / NAME)
    assert names(share / NAME / 'launch') == {'relocalize.launch.py', 'nav2_startup.launch.py'}
    assert {'relocalizer.yaml', 'relocalizer.rviz'} <= names(share / NAME / 'config')
    trained_with = {path.name for path in (repository / 'config' / 'train').glob('*.yaml')}
    if trained_with:
        assert names(share / NAME / 'config' / 'train') == trained_with
    found = subprocess.run(
        [sys.executable, '-c', 'from implicit_relocalizer.resources import share_path;'
         'print(share_path("config/relocalizer.yaml"))'], cwd=prefix, text=True,
        capture_output=True, check=True,
        env={**os.environ, 'PYTHONPATH': str(next((prefix / 'lib').glob('python*/*-packages')))})
    assert Path(found.stdout.strip()) == share / NAME / 'config' / 'relocalizer.yaml'


def test_pip_puts_programs_into_bin(tree):
    try:
        run_setup(tree, 'bdist_wheel', '--dist-dir', str(tree.parent / 'wheel'))
    except AssertionError as error:
        if "invalid command 'bdist_wheel'" not in str(error):
            raise
        pytest.skip('needs setuptools >= 70.1 or wheel to build a wheel')
    wheel = zipfile.ZipFile(next((tree.parent / 'wheel').glob('*.whl')))
    files = set(wheel.namelist())
    entry_points = wheel.read(next(f for f in files if f.endswith('entry_points.txt'))).decode()
    assert set(re.findall(r'^(\S+) = ', entry_points, re.MULTILINE)) == PROGRAMS
    # Scripts in the wheel itself would be those of lib/<package>: pip has to make them.
    assert not [f for f in files if '/scripts/' in f or f'lib/{NAME}' in f]
    assert any(f.endswith(f'.data/data/share/{NAME}/config/relocalizer.yaml') for f in files)
    assert f'{NAME}/py.typed' in files
    assert {f.split('/')[0].split('-')[0] for f in files} == {NAME}


def test_every_program_starts_a_function_that_exists(repository):
    setup = (repository / 'setup.py').read_text()
    targets = re.findall(r"= \{NAME\}\.([\w.]+):(\w+)'", setup)
    assert len(targets) == len(PROGRAMS)
    for module, function in targets:
        path = repository / NAME / (module.replace('.', '/') + '.py')
        if not path.exists():
            path = path.with_suffix('') / '__init__.py'
        defined = {node.name for node in ast.parse(path.read_text()).body
                   if isinstance(node, ast.FunctionDef)}
        assert function in defined, f'{path} has no function {function}'


def test_manifest_and_setup_agree(manifest, repository):
    assert manifest.get('format') == '3'
    assert manifest.findtext('license') == 'Apache-2.0'
    assert manifest.findtext('export/build_type') == 'ament_python'
    assert query(repository, '--name', '--version', '--license') == [
        manifest.findtext(tag) for tag in ('name', 'version', 'license')]


def test_manifest_names_what_is_imported(manifest, repository):
    declared = {element.text for element in manifest.findall('exec_depend')}
    imported = {'launch', 'launch_ros'}
    for path in (repository / NAME).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name.split('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split('.')[0])
    third_party = imported - set(sys.stdlib_module_names) - {NAME} - NO_DEPENDENCY
    assert {KEYS.get(module, module) for module in third_party} <= declared


def test_constraints_pin_every_direct_dependency(repository):
    setup = (repository / 'setup.py').read_text()
    requirements = {m.lower() for m in re.findall(
        r"'([A-Za-z][\w.-]*)(?:>=[\d.]+)?'", setup[setup.index('install_requires'):
                                                  setup.index('entry_points')])}
    requirements -= {'train', 'ros', 'demo', 'test', 'rerun'}
    lines = [line for line in (repository / 'constraints.txt').read_text().splitlines()
             if line and not line.startswith('#')]
    parts = [re.fullmatch(r"([\w.-]+)==[\w.]+(; python_version (?:<|>=) '3\.\d+')?", line)
             for line in lines]
    assert all(parts), lines
    # Once for every Python, or once on either side of a version.
    pinned = [(part[1].lower(), bool(part[2])) for part in parts]
    assert {name for name, _ in pinned} == requirements
    assert all(pinned.count(pin) == 1 + pin[1] for pin in pinned)
