# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the node end to end over DDS: camera process, node, listener."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from implicit_relocalizer.ros.benchmark.plan import (
    EMPTY_NODE,
    FLAT_OUT,
    NAMESPACES,
    NODE,
    PROCESS,
    SATURATED,
    BenchmarkError,
    Plan,
    Slice,
    read_slices,
    write_plan,
)
from implicit_relocalizer.ros.benchmark.summary import summarize
from implicit_relocalizer.ros.processes import make_private_environment, read_tail, running

_POLL_S = 0.2
# Images of a measurement are no drive: each is answered by itself, none refused.
_ANSWER_ALL: dict[str, object] = {
    'image_reliability': 'reliable', 'consensus_fixes': 1, 'min_confidence': 0.0,
    'max_position_std_m': 0.0, 'map_margin_m': 1e6, 'announce_initialpose': False}


def measure_dds(model: Path, device: str, images: Sequence[NDArray[np.uint8]],
                K_33: NDArray[np.float64], rates_hz: Sequence[float] = (10.0, 30.0, 60.0),
                seconds_per_rate: float = 10.0, threads: int = 1, flat_out: bool = True,
                saturated: bool = True, turn_s: float = 1.0, transport: str = 'raw',
                encoding: str = 'rgb8', parameters: Mapping[str, object] | None = None,
                tf_rate_hz: float = 0.0, patience_s: float = 120.0) -> dict[str, Any]:
    """Measure from the publication of an image to the reception of its pose, between processes.

    The relocalizer (`~/pose`), an empty node that answers with the stamp, and the same model
    called in the camera's process take turns, so that what else the machine does hits all three.
    Nodes and camera are in a DDS domain of their own on this machine only, and are always ended.

    Args:
        model: Model file.
        device: 'auto', 'cpu' or 'cuda'.
        images: Of one size, RGB.
        K_33: Their intrinsics.
        rates_hz: Images per second, each a load of its own.
        seconds_per_rate: Of each load and target.
        threads: The node's parameter `num_threads`.
        flat_out: Also a load whose next image is published when the last one is answered.
        saturated: After it, also one of twice as many images as were answered then.
        turn_s: Length of a turn, of which each load has as many as fit. Short ones let all three
            meet every mood of a machine whose speed changes from second to second.
        transport: 'raw' or 'compressed' (JPEG).
        encoding: Of raw images, rgb8 or bgr8.
        parameters: Of the node, beyond those by which every image is answered.
        tf_rate_hz: How often odometry is sent on /tf besides.
        patience_s: How long the node may take to start, and to give a first answer.

    Returns:
        `loads`: of each load (its rate as text, 'flat_out', 'saturated') `node`, `empty_node` and
        `process` as of `summary.summarize_target`, and the ratio as of
        `summary.summarize`. `memory_mb` of the nodes at the end, and how it was measured.

    Raises:
        BenchmarkError: no ROS here, or a node did not start or answer; with the end of its log.
    """
    rounds = max(1, round(seconds_per_rate / turn_s))
    plan = Plan(
        (*(f'{rate_hz:g}' for rate_hz in rates_hz), *([FLAT_OUT] if flat_out else []),
         *([SATURATED] if flat_out and saturated else [])),
        (NODE, EMPTY_NODE, PROCESS), rounds, seconds_per_rate / rounds,
        tuple(np.asarray(K_33, np.float64).ravel().tolist()), str(model.resolve()), device,
        threads, {}, transport, encoding, patience_s, tf_rate_hz)
    memory_mb: dict[str, float] = {}

    def note_memory(processes: Mapping[str, psutil.Process]) -> None:
        for name, process in processes.items():
            memory_mb[name] = round(process.memory_info().rss / 1e6, 1)

    slices = run_plan(plan, images, parameters or {}, note_memory)
    height, width = images[0].shape[:2]
    return {'loads': {load: summarize([one for one in slices if one.load == load])
                      for load in plan.loads},
            'memory_mb': memory_mb, 'image_size': [width, height], 'transport': transport,
            'encoding': encoding, 'device': device, 'threads': threads,
            'seconds_per_rate': seconds_per_rate, 'rounds': rounds, 'tf_rate_hz': tf_rate_hz,
            'parameters': dict(parameters or {})}


def run_plan(plan: Plan, images: Sequence[NDArray[np.uint8]], parameters: Mapping[str, object],
             watch: Callable[[Mapping[str, psutil.Process]], None]) -> list[Slice]:
    """Start the nodes of a plan and the camera, and wait for its end.

    Args:
        plan: Without process ids.
        images: RGB, of one size.
        parameters: Of the node, beyond those by which every image is answered.
        watch: Called several times a second with the processes of the nodes.

    Raises:
        BenchmarkError: as of `measure_dds`.
    """
    for module in ('rclpy', 'tf2_ros'):
        if importlib.util.find_spec(module) is None:
            raise BenchmarkError(f'measuring over DDS needs ROS 2: there is no {module} here')
    if len({image.shape for image in images}) != 1:
        raise BenchmarkError('images to be measured with need one size')
    with tempfile.TemporaryDirectory(prefix='relocalizer_benchmark_') as name, \
            contextlib.ExitStack() as stack:
        folder = Path(name)
        environment = make_private_environment(folder / 'ros_log')
        started = {target: stack.enter_context(_started(
            _command(target, plan, parameters), environment, folder / f'{target}.log'))
            for target in plan.targets if target in NAMESPACES}
        plan = replace(plan, process_ids={
            target: process.pid for target, process in started.items()})
        processes = {target: psutil.Process(process.pid) for target, process in started.items()}
        write_plan(folder, plan, images)
        camera = stack.enter_context(_started(
            [sys.executable, '-m', 'implicit_relocalizer.ros.benchmark.camera', str(folder)],
            environment, folder / 'camera.log'))
        while camera.poll() is None:
            for target, process in started.items():
                if process.poll() is not None:
                    raise BenchmarkError(
                        f'the {target} ended with status {process.returncode}; the end of its '
                        f'log:\n{read_tail(folder / f"{target}.log")}')
            with contextlib.suppress(psutil.NoSuchProcess):
                watch(processes)
            time.sleep(_POLL_S)
        if camera.returncode:
            logs = ''.join(f"\nthe end of the {target}'s log:\n"
                           f'{read_tail(folder / f"{target}.log")}' for target in started)
            reason = read_tail(folder / 'camera.log').strip()
            raise BenchmarkError(f'the camera ended with status {camera.returncode}: '
                                 f'{reason}{logs}')
        return read_slices(folder)


def _command(target: str, plan: Plan, parameters: Mapping[str, object]) -> list[str]:
    module = {NODE: ['implicit_relocalizer.ros.node'],
              EMPTY_NODE: ['implicit_relocalizer.ros.benchmark.empty_node', plan.transport]}
    values = {'model': plan.model, 'device': plan.device, 'num_threads': plan.threads,
              'image_transport': plan.transport, **_ANSWER_ALL, **parameters}
    return [sys.executable, '-m', *module[target], '--ros-args',
            '-r', f'__ns:={NAMESPACES[target]}',
            *(part for name, value in values.items() if target == NODE
              for part in ('-p', f'{name}:={_yaml(value)}'))]


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextlib.contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str],
             log: Path) -> Iterator[subprocess.Popen]:
    with log.open('w') as file, running(command, environment, file.fileno()) as process:
        yield process
