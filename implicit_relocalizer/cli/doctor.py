# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer doctor`: look at a running ROS graph and say what is wrong with it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_relocalizer.cli.subparsers import Subparsers

if TYPE_CHECKING:
    from implicit_relocalizer.localization.bringup_findings import Finding
    from implicit_relocalizer.localization.bringup_observation import (
        Computer,
        Model,
        Observation,
    )

TF_MODES = ('map_to_odom', 'map_to_base', 'map_to_camera', 'none')
_EXPECTED = ('tf_mode', 'map_frame', 'odom_frame', 'base_frame', 'camera_frame', 'rectified',
             'use_sim_time')
# Where the drivers of desktop cards and of Jetsons show themselves.
_GPU_DEVICES = ('/dev/nvidia0', '/dev/nvhost-gpu')
_MIN_SECONDS = 1.0


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'doctor', help='look at a running ROS graph and say what is wrong with it',
        description='Watch a running ROS graph for a few seconds and say in plain words what '
        'keeps the relocalizer from working. Exit status 1 if there is a problem, 0 if not. '
        'What no option says is asked of the running relocalizer; where there is none, its '
        'defaults are expected.')
    parser.add_argument('--image', metavar='TOPIC', help='topic of the images (/image; '
                        'with --compressed /image/compressed)')
    parser.add_argument('--compressed', action='store_true',
                        help='the images are sensor_msgs/CompressedImage')
    parser.add_argument('--camera-info', default='/camera_info', metavar='TOPIC',
                        help='topic of their CameraInfo (%(default)s)')
    parser.add_argument('--model', type=Path, metavar='FILE',
                        help='compare the images with what this model was trained on')
    for name, what in (('map', 'the map'), ('odom', 'the odometry'),
                       ('base', 'the robot'), ('camera', 'the camera')):
        default = {'base': 'base_link', 'camera': 'frame_id of the images'}.get(name, name)
        parser.add_argument(f'--{name}-frame', metavar='FRAME',
                            help=f'frame of {what} (default: {default})')
    parser.add_argument('--tf-mode', choices=TF_MODES,
                        help='which transform the relocalizer is to send '
                        '(default: map_to_camera)')
    parser.add_argument('--rectified', action='store_true', default=None,
                        help='the images are rectified')
    parser.add_argument('--use-sim-time', action='store_true', default=None,
                        help='the robot is to take its time from /clock')
    parser.add_argument('--node', default='/relocalizer', metavar='NAME',
                        help="fully qualified name of the relocalizer (%(default)s); '' looks "
                        'for none')
    parser.add_argument('--namespaced-tf', action='store_true',
                        help="TF is on tf and tf_static of that node's namespace, as Nav2 has "
                        'it, not on /tf')
    parser.add_argument('--seconds', type=_seconds, default=5.0, metavar='S',
                        help='how long to watch (%(default)g); in less than 4 s DDS may not have '
                        'found everyone')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write everything seen')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Watch as the options say; the exit status tells whether there is a problem."""
    try:
        from implicit_relocalizer.ros.graph_observer import Watch, observe_graph
    except ImportError as error:
        raise RuntimeError(
            f'no usable ROS 2 here ({error}); source its setup (. /opt/ros/DISTRO/setup.sh), or '
            f'install the wheels (the extra [ros]) and pip_overlay') from error
    from implicit_relocalizer.localization.bringup_checks import check_bringup
    from implicit_relocalizer.localization.bringup_findings import (
        describe_findings,
        describe_verdict,
        has_problem,
    )
    image = options.image or ('/image/compressed' if options.compressed else '/image')
    watch = Watch(image, options.camera_info, options.compressed, _absolute(options.node),
                  options.namespaced_tf, {name: getattr(options, name) for name in _EXPECTED})
    seen = observe_graph(watch, options.seconds, _observe_model(options.model),
                         _observe_computer())
    findings = check_bringup(seen)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print(f'watched for {seen.seconds:g} s: {len(seen.nodes)} nodes, {len(seen.topics)} topics, '
          f'ROS_DOMAIN_ID {seen.environment["ROS_DOMAIN_ID"] or "0 (not set)"}')
    print(describe_findings(findings, width))
    print(describe_verdict(findings))
    if options.json is not None:
        _write_json(options.json, seen, findings)
    return int(has_problem(findings))


def _observe_model(path: Path | None) -> Model | None:
    if path is None:
        return None
    from implicit_relocalizer.localization.bringup_observation import Model
    from implicit_relocalizer.network.model_file import ModelFileError, read_metadata
    try:
        metadata = read_metadata(path)
    except (ModelFileError, OSError) as error:
        return Model(str(path), str(error))
    return Model(str(path), '', metadata.scene, metadata.world_frame, metadata.image_size)


def _observe_computer() -> Computer:
    import torch

    from implicit_relocalizer.localization.bringup_observation import Computer
    devices = [device for device in _GPU_DEVICES if Path(device).exists()]
    gpu = devices[0] if devices else shutil.which('nvidia-smi') or ''
    return Computer(gpu, torch.__version__, torch.cuda.is_available())


def _write_json(path: Path, seen: Observation, findings: Sequence[Finding]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(
        {'findings': [asdict(finding) for finding in findings], 'seen': asdict(seen)},
        indent=2, default=_plain) + '\n')


def _plain(value: Any) -> Any:
    """NumPy's matrices as lists."""
    return value.tolist()


def _absolute(node: str) -> str:
    return f'/{node.strip("/")}' if node else ''


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _MIN_SECONDS <= seconds <= 3600.0:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no time to watch; give {_MIN_SECONDS:g} to 3600 seconds')
    return seconds
