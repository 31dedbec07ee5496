# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Show images to the nodes of a measurement and note when their poses come.

`python -m implicit_relocalizer.ros.benchmark.camera FOLDER`, with a plan in the folder.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from implicit_relocalizer.ros.benchmark.camera_node import Camera
from implicit_relocalizer.ros.benchmark.plan import (
    FLAT_OUT,
    NODE,
    PROCESS,
    SATURATED,
    BenchmarkError,
    Plan,
    Slice,
    read_plan,
    write_slices,
)

if TYPE_CHECKING:
    from implicit_relocalizer.localization.model_runner import ModelRunner

_SETTLING_S = 1.5
_WARM_UP_IMAGES = 5
_MOST_ANSWER_PATIENCE_S = 30.0
_LOST_AFTER_S = 2.0  # an image without an answer, flat out
_STATUS_PATIENCE_S = 2.5
_COUNTS = ('received', 'superseded', 'answered', 'refused')


class Measurement:
    """Slices of one target and one load after the other."""

    def __init__(self, camera: Camera, plan: Plan, images: NDArray[np.uint8]) -> None:
        self._camera = camera
        self._plan = plan
        self._images = images
        self._K_33 = np.reshape(np.array(plan.K_33, np.float64), (3, 3))
        self._runner = _load(plan) if PROCESS in plan.targets else None
        self._processes = {name: psutil.Process(pid) for name, pid in plan.process_ids.items()}
        self._processes[PROCESS] = psutil.Process()
        self._rates_hz: list[float] = []  # of the node, flat out

    def run(self) -> list[Slice]:
        """All of the plan.

        Raises:
            BenchmarkError: a node is missing, or does not answer.
        """
        self._await_nodes()
        self._warm_up()
        return [self._slice(load, target) for load in self._plan.loads
                for _ in range(self._plan.rounds) for target in self._plan.targets]

    def _await_nodes(self) -> None:
        end_s = time.monotonic() + self._plan.patience_s
        while self._camera.missing():
            if time.monotonic() > end_s:
                raise BenchmarkError(f'no node to measure after {self._plan.patience_s:g} s: '
                                     f'{", ".join(self._camera.missing())}')
            time.sleep(0.05)
        time.sleep(_SETTLING_S)  # the other side may still be matching

    def _warm_up(self) -> None:
        for target in self._camera.targets:
            patience_s = min(self._plan.patience_s, _MOST_ANSWER_PATIENCE_S)
            answered, end_s = 0, time.monotonic() + patience_s
            while answered < _WARM_UP_IMAGES:
                stamp_ns, _ = self._camera.send(target, answered)
                answered += self._camera.is_answered(target, stamp_ns, _LOST_AFTER_S)
                if not answered and time.monotonic() > end_s:
                    refusal = self._camera.status.get('last_refusal_text', '')
                    raise BenchmarkError(f'the {target} answered no image in '
                                         f'{patience_s:g} s; {refusal}')
        if self._runner is not None:
            self._runner.warm_up()
            for number in range(_WARM_UP_IMAGES):
                self._runner.locate(self._images[number % len(self._images)], self._K_33)

    def _slice(self, load: str, target: str) -> Slice:
        before = self._camera.hear_status(_STATUS_PATIENCE_S) if target == NODE else {}
        inference_ms: list[float] = []
        heard = self._camera.statuses_heard

        def note_inference() -> None:
            nonlocal heard
            if target == NODE and self._camera.statuses_heard > heard:
                heard = self._camera.statuses_heard
                inference_ms.extend(float(text) for text in
                                    [self._camera.status.get('inference_ms', '')] if text)

        show = self._locate if target == PROCESS else self._send
        cpu_s, start_s = self._cpu_s(target), time.monotonic()
        shown = self._show(load, target, show, note_inference)
        duration_s = time.monotonic() - start_s
        if target != PROCESS:
            self._camera.is_answered(target, shown[-1][0], _LOST_AFTER_S)
        cpu_s = self._cpu_s(target) - cpu_s
        after = self._camera.hear_status(_STATUS_PATIENCE_S) if target == NODE else {}
        note_inference()
        received: list[int | None]
        if target == PROCESS:
            received = [stamp_ns for stamp_ns, _ in shown]
        else:
            answers = self._camera.targets[target].received_ns
            received = [answers.get(stamp_ns) for stamp_ns, _ in shown]
            answers.clear()
        if target == NODE and load == FLAT_OUT:
            self._rates_hz.append(sum(at is not None for at in received) / duration_s)
        return Slice(load, target, duration_s, [sent_ns for _, sent_ns in shown], received, cpu_s,
                     {name: int(after[f'images_{name}']) - int(before[f'images_{name}'])
                      for name in _COUNTS} if before and after else {},
                     inference_ms, after.get('last_refusal_text', ''))

    def _show(self, load: str, target: str, show: Callable[[str, int], tuple[int, int]],
              between: Callable[[], None]) -> list[tuple[int, int]]:
        """Show images for the length of a slice: their stamps and times of publication."""
        rate_hz = None if load == FLAT_OUT else self._rate_of(load)
        shown: list[tuple[int, int]] = []
        start_s = time.monotonic()
        end_s = start_s + self._plan.slice_s
        while not shown or time.monotonic() < end_s:
            if rate_hz is not None:
                # From the start, so that delays do not add up; what is late is not caught up on.
                late_s = time.monotonic() - (start_s + len(shown) / rate_hz)
                if late_s > 1.0 / rate_hz:
                    start_s += late_s
                time.sleep(max(0.0, -late_s))
            shown.append(show(target, len(shown)))
            if rate_hz is None and target != PROCESS:
                self._camera.is_answered(target, shown[-1][0], _LOST_AFTER_S)
            between()
        if rate_hz is not None:
            time.sleep(max(0.0, start_s + len(shown) / rate_hz - time.monotonic()))
        return shown

    def _rate_of(self, load: str) -> float:
        return 2.0 * float(np.mean(self._rates_hz)) if load == SATURATED else float(load)

    def _send(self, target: str, number: int) -> tuple[int, int]:
        return self._camera.send(target, number)

    def _locate(self, _: str, number: int) -> tuple[int, int]:
        """Answer an image here: the time after it in place of a stamp, and that before it."""
        assert self._runner is not None
        sent_ns = time.monotonic_ns()
        self._runner.locate(self._images[number % len(self._images)], self._K_33)
        return time.monotonic_ns(), sent_ns

    def _cpu_s(self, target: str) -> float:
        process = self._processes.get(target)
        if process is None:
            return 0.0
        times = process.cpu_times()
        return float(times.user + times.system)


def main() -> int:
    """Run the program; returns the exit status."""
    folder = Path(sys.argv[1])
    plan, images = read_plan(folder)
    # Python's own handlers: an interrupt ends it at once, whatever it is doing.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    camera = Camera(plan, images)
    executor = SingleThreadedExecutor()
    executor.add_node(camera)
    thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
    thread.start()
    try:
        write_slices(folder, Measurement(camera, plan, images).run())
    except (BenchmarkError, psutil.Error) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        executor.shutdown()
        thread.join()
        rclpy.try_shutdown()
    return 0


def _load(plan: Plan) -> ModelRunner:
    # Only here: torch takes seconds to import, and memory.
    from implicit_relocalizer.localization.model_runner import (
        ModelRunner,
        choose_device,
        limit_threads,
    )
    limit_threads(plan.threads)
    return ModelRunner(Path(plan.model), choose_device(plan.device))


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


if __name__ == '__main__':
    sys.exit(main())
