# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The whole way in one program: place, training, node, drive, verdict and picture.

Run as `scripts/demo` or `python -m implicit_relocalizer.demo`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from implicit_relocalizer.data.frames import Frame, Scene, SceneError
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.checks import (
    Check,
    check_conduct,
    check_costs,
    check_quick_accuracy,
    check_real_accuracy,
    check_synthetic_accuracy,
    describe_drive,
)
from implicit_relocalizer.evaluation.clouds import imagined_cloud, measured_cloud, read_rgb
from implicit_relocalizer.evaluation.drive import DriveResult, evaluate_drive
from implicit_relocalizer.evaluation.metrics import RecallLimit
from implicit_relocalizer.evaluation.picture import Glimpse, draw_drive
from implicit_relocalizer.evaluation.versions import find_versions
from implicit_relocalizer.network.model_file import ModelFileError, load_model, read_metadata
from implicit_relocalizer.ros.drive_session import SessionError, run_drive

STEPS = ('place', 'training', 'drive', 'picture')
GLIMPSES = 4
QUICK_PLACE = ('--width', '160', '--height', '120', '--mapping-frames', '100',
               '--held-out-frames', '15')
QUICK_TRAINING = ('input_width=160', 'validation_fraction=0', 'landmarks.most=6000',
                  'landmarks.partner_views=8', 'landmarks.points_asked=100')
PACKAGE_DIR = Path(__file__).resolve().parent


class DemoError(RuntimeError):
    """A step failed; the message says which and why."""


@dataclass
class StepClock:
    """Announces steps and keeps how long each took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Run a block as the step `name` of `STEPS`."""
        print(f'\n[{STEPS.index(name) + 1}/{len(STEPS)}] {text}', flush=True)
        start_s = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start_s
        print(f'    {self.seconds[name]:.1f} s', flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns 0 if every requirement holds, else 1."""
    options = _parse(arguments)
    # End like an interrupt does, so that no node outlives us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run_demo(options)
    except (DemoError, SceneError, ModelFileError, SessionError, OSError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('demo: interrupted', file=sys.stderr)
        return 130


def run_demo(options: argparse.Namespace) -> int:
    """All steps in order; see the module's first line."""
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    for name in ('result.json', 'demo.png', 'observations.json'):
        (output / name).unlink(missing_ok=True)  # a failed run must not show an old result
    clock = StepClock()
    with clock.step('place', f'the place: {options.scene or "rendered, nothing in it is real"}'):
        scene_dir = options.scene or render_place(
            output / 'place', options.place_seed, QUICK_PLACE if options.quick else ())
        scene = read_folder_scene(scene_dir)
        print(f'    {len(scene.split("train"))} training images, {len(scene.split("test"))} '
              f'held out, {scene.image_size[0]}x{scene.image_size[1]}')
    model = output / 'model.pt'
    with clock.step('training', f'the model: {options.model or "trained from images and poses"}'):
        overrides = QUICK_TRAINING if options.quick else ()
        training = (take_model(options.model, model) if options.model else
                    train(scene_dir, options.config, overrides, output / 'run', model))
    with clock.step('drive', f'the drive: a camera at {options.rate:g} Hz over DDS'):
        observations = run_drive(model, scene_dir, output, options.rate, options.patience)
        drive = evaluate_drive(observations, scene.frames)
    with clock.step('picture', f'the picture: {output / "demo.png"}'):
        draw(output / 'demo.png', scene.name if options.scene else 'a rendered room', scene,
             drive, model)
    return report(output, scene, drive, training, model, clock, options)


def render_place(place: Path, seed: int, more_arguments: Sequence[str]) -> Path:
    """Render the synthetic place, unless the same one is already there.

    Args:
        place: Folder to make.
        seed: Another seed is another place.
        more_arguments: For `implicit-relocalizer synthesize`.

    Raises:
        DemoError: rendering failed, or the folder holds something that we did not make.
    """
    arguments = ['synthesize', str(place), '--seed', str(seed), *more_arguments]
    note = place.with_name('place.json')
    key = {'arguments': arguments[2:],
           'renderer': _hash_sources(PACKAGE_DIR / 'data' / 'synthetic')}
    known = json.loads(note.read_text()) if note.is_file() else {}
    if known == {**key, 'complete': True} and place.is_dir():
        print(f'    reused: {place}')
        return place
    if place.exists():
        if not known:
            raise DemoError(f'{place}: holds a place that the demo did not render; '
                            f'move it away or choose another --output')
        shutil.rmtree(place)
    note.write_text(json.dumps({**key, 'complete': False}))
    run_console_program(arguments)
    note.write_text(json.dumps({**key, 'complete': True}))
    return place


def take_model(given: Path, model: Path) -> dict[str, Any]:
    """Copy a given model to `model`.

    Returns:
        'seconds' of training (None: not done here), and 'train': training errors, as far as the
        file knows them.
    """
    accuracy = read_metadata(given).accuracy
    if not (model.exists() and given.samefile(model)):
        shutil.copyfile(given, model)
    return {'seconds': None, 'train': accuracy.get('train', {})}


def train(scene_dir: Path, config: str, overrides: Sequence[str], run: Path,
          model: Path) -> dict[str, Any]:
    """Train a model in `run`, from the beginning, and copy it to `model`.

    Returns:
        'seconds' of training (preparing the images and validation included) and 'train',
        the errors on training images.
    """
    # Restart: what an earlier demo left may belong to other images of the same names.
    run_console_program(['train', str(scene_dir), '--config', config, '--output', str(run),
                         '--restart', *(word for setting in overrides
                                        for word in ('--set', setting))])
    result = json.loads((run / 'result.json').read_text())
    shutil.copyfile(run / 'model.pt', model)
    return {'seconds': result['training_seconds'], 'train': result['train']}


def draw(path: Path, place: str, scene: Scene, drive: DriveResult, model: Path) -> None:
    """Draw the picture of the run."""
    module, _ = load_model(model)
    chosen = _spread(scene.split('test'), GLIMPSES)
    glimpses = [Glimpse(frame.name, read_rgb(frame), frame.T_world_camera,
                        imagined_cloud(module, frame), measured_cloud(frame)) for frame in chosen]
    training_n44 = np.array([frame.T_world_camera for frame in scene.split('train')])
    draw_drive(path, f'implicit_relocalizer in {place}', drive, training_n44, glimpses,
               RecallLimit(0.10, 5.0))


def report(output: Path, scene: Scene, drive: DriveResult, training: dict[str, Any], model: Path,
           clock: StepClock, options: argparse.Namespace) -> int:
    """Write `result.json`, print the table and every check; returns the exit status."""
    summary = drive.summarize().to_dict()
    accuracy = (check_real_accuracy if options.scene else
                check_quick_accuracy if options.quick else check_synthetic_accuracy)
    total_s = sum(clock.seconds.values())
    checks = [*check_conduct(drive), *accuracy(drive),
              *check_costs(model.stat().st_size, training['seconds'], total_s,
                           options.strict_times)]
    latencies_ms = drive.latencies_ms
    result = {
        'scene': scene.name,
        'quick': options.quick,
        'frames_sent': summary.pop('frames_asked'),
        'frames_answered': summary.pop('frames_answered'),
        **summary,
        'train_median_translation_m': training['train'].get('median_translation_m'),
        'train_median_rotation_deg': training['train'].get('median_rotation_deg'),
        'latency_ms': {
            'median': float(np.median(latencies_ms)) if len(latencies_ms) else None,
            'p95': float(np.percentile(latencies_ms, 95)) if len(latencies_ms) else None},
        'training_seconds': training['seconds'],
        'model_bytes': model.stat().st_size,
        'rate_hz': options.rate,
        'step_seconds': {**clock.seconds, 'total': total_s},
        'versions': find_versions(),
        'checks': [check.to_dict() for check in checks],
        'passed': not _failed(checks),
    }
    (output / 'result.json').write_text(json.dumps(result, indent=2) + '\n')
    print('\n' + describe_drive(result) + '\n')
    for check in checks:
        print('  ' + check.describe())
    print(f'\n  {output}: demo.png, result.json, model.pt, bag/, node.log')
    for check in _failed(checks):
        print(f'demo: {check.describe()}', file=sys.stderr)
    return 1 if _failed(checks) else 0


def run_console_program(arguments: Sequence[str]) -> None:
    """Run `implicit-relocalizer` as a user would, showing the command.

    Raises:
        DemoError: it ended with an error.
    """
    print(f'    $ implicit-relocalizer {shlex.join(arguments)}', flush=True)
    command = [sys.executable, '-m', 'implicit_relocalizer.cli', *arguments]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise DemoError(f'`implicit-relocalizer {shlex.join(arguments)}` ended with '
                        f'status {status}; its last lines above say why')


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='demo', description='Learn a place from posed images, start the relocalizer node, '
        'play a held-out drive to it as a camera, and judge its answers.')
    parser.add_argument('scene', nargs='?', type=Path,
                        help='a place of your own: folder with rgb/, poses/, K.txt and '
                        'splits/standard.txt; by default one is rendered')
    parser.add_argument('--output', type=Path, default=Path('demo_output'),
                        help='folder for everything the demo makes (%(default)s)')
    parser.add_argument('--model', type=Path, help='use this model instead of training one')
    parser.add_argument('--config', default='landmarks',
                        help='training configuration (%(default)s)')
    parser.add_argument('--rate', type=float, default=10.0, help='frames per second (%(default)s)')
    parser.add_argument('--patience', type=float, default=60.0,
                        help='seconds the node may take to get ready (%(default)s)')
    parser.add_argument('--place-seed', type=int, default=0,
                        help='another seed renders another place (%(default)s)')
    parser.add_argument('--quick', action='store_true',
                        help='a tiny rendered place, trained for seconds and judged by loose '
                        'limits: tries the program, not the method')
    parser.add_argument('--strict-times', action='store_true',
                        help='fail, not only warn, when training or the demo takes too long')
    options = parser.parse_args(arguments)
    if options.rate <= 0:
        parser.error(f'--rate {options.rate}: must be above 0')
    if options.quick and options.scene:
        parser.error('--quick renders its own tiny place; leave the scene or --quick out')
    return options


def _failed(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.required and not check.passed]


def _spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """`count` frames, evenly spread and away from the ends."""
    positions = (np.arange(min(count, len(frames))) + 0.5) * len(frames) / min(count, len(frames))
    return [frames[int(position)] for position in positions]


def _hash_sources(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == '__main__':
    sys.exit(main())
