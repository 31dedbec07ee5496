# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Processes of their own that need not import torch again: seconds of a core each."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

# Forked from a server that has no threads, has imported these and has done nothing else.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload([
    'implicit_relocalizer.training.trainer', 'implicit_relocalizer.evaluation.accuracy',
    'implicit_relocalizer.network.cnn', 'torch._dynamo', 'torch.utils.tensorboard'])


def start(log: Path, function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """Start a function of a module in a process; its output goes to a log."""
    process = CONTEXT.Process(target=_run, args=(log, function, arguments))
    process.start()
    return process


def finish(log: Path, function: Callable[..., Any], *arguments: Any,
           timeout_s: float = 300.0) -> tuple[int, str]:
    """Run a function of a module in a process: its exit status and what it wrote."""
    process = start(log, function, *arguments)
    try:
        process.join(timeout_s)
        assert process.exitcode is not None, f'no end in {timeout_s} s:\n{log.read_text()}'
    finally:
        process.kill()
        process.join()
    return process.exitcode, log.read_text()


def program(arguments: Sequence[str]) -> None:
    """What the program `implicit-relocalizer` does; for `start` and `finish`."""
    from implicit_relocalizer.cli import main
    sys.exit(main(arguments))


def _run(log: Path, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    import torch
    torch.set_num_threads(1)  # several of them run beside each other
    with log.open('wb') as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    function(*arguments)
