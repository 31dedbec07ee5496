# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One package for both worlds: colcon (ament_python) and pip."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = 'implicit_relocalizer'
ROOT = Path(__file__).resolve().parent


def files(folder: str, pattern: str) -> list[str]:
    """The files of a folder, relative to this file as setuptools wants them."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern))


setup(
    name=NAME,
    version='0.1.0',
    description='Global localization from one camera image, learned from poses alone.',
    author='The implicit_relocalizer authors',
    maintainer='The implicit_relocalizer authors',
    maintainer_email='maintainers@example.org',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'evaluation/report/web/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        (f'share/{NAME}/launch', files('launch', '*.launch.py')),
        (f'share/{NAME}/config', files('config', '*.yaml') + files('config', '*.rviz')
         + files('config', '*.xml')),
        (f'share/{NAME}/config/experiments', files('config/experiments', '*.yaml')),
        (f'share/{NAME}/config/train', files('config/train', '*.yaml')),
    ],
    zip_safe=False,
    install_requires=['numpy>=1.26', 'scipy>=1.11', 'torch>=2.1', 'torchvision>=0.16'],
    extras_require={
        'train': [
            'matplotlib>=3.6', 'opencv-python-headless>=4.6', 'pillow>=10', 'psutil>=5.9',
            'pyyaml>=6', 'rosbags>=0.11', 'tensorboard>=2.11', 'tqdm>=4.60'],
        # Machines without a ROS 2 installation; pip_overlay/ supplies the rest.
        'ros': [
            'ros-diagnostic-msgs', 'ros-kilted-geometry-msgs', 'ros-kilted-rclpy',
            'ros-kilted-rmw-fastrtps-cpp', 'ros-kilted-sensor-msgs', 'ros-lifecycle-msgs',
            'ros-std-srvs', 'opencv-python-headless>=4.6', 'rosbags>=0.11',
            'rosbags-image>=0.10'],
        'demo': ['pyvista>=0.43'],
        # For `evaluate --rerun`, some 600 MB.
        'rerun': ['rerun-sdk>=0.26'],
        'test': ['mypy>=1.8', 'pytest>=7.4', 'pytest-xdist>=3.5', 'rerun-sdk>=0.26', 'roma>=1.5',
                 'ruff>=0.5', 'types-PyYAML', 'types-psutil', 'types-tqdm'],
    },
    entry_points={
        'console_scripts': [
            f'relocalizer = {NAME}.ros.node:main',
            f'train = {NAME}.cli:train_main',
            f'implicit-relocalizer = {NAME}.cli:main',
        ],
    },
)
