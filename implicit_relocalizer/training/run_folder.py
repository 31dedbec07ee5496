# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: configuration, circumstances, checkpoint, model and result."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from implicit_relocalizer.training.configuration import TrainingConfig
from implicit_relocalizer.training.configuration_file import format_configuration
from implicit_relocalizer.training.durable import PARTIAL, write_text_durably
from implicit_relocalizer.training.stage_log import FOLDER as CURVES

CONFIGURATION, RECORD = 'config.yaml', 'run.json'
CHECKPOINT, MODEL, RESULT = 'checkpoint.pt', 'model.pt', 'result.json'
LOCK = '.lock'


class RunFolderError(RuntimeError):
    """A run folder cannot be used; the message names it, the reason and the remedy."""


class RunFolder:
    """A folder that one training at a time writes into.

    Usable as a context: leaving it gives the folder back. The kernel gives it back too when the
    process is killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock: TextIO | None = None

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted run goes on."""
        return self.path / CHECKPOINT

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / MODEL

    def acquire(self) -> None:
        """Make the folder and keep other trainings out.

        Raises:
            RunFolderError: another training writes into it, or it is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f'{self.path}: is a file, not a run folder; choose another '
                                 f'--output')
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / LOCK).open('a+')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or 'unknown'
            lock.close()
            raise RunFolderError(f'{self.path}: another training ({holder}) writes into this '
                                 f'folder; wait for it, or choose another --output') from None
        lock.truncate(0)
        lock.write(f'process {os.getpid()} on {platform.node()}\n')
        lock.flush()
        self._lock = lock

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def clear(self) -> None:
        """Delete what a training left in the folder, and nothing else that may be there."""
        for name in (CONFIGURATION, RECORD, CHECKPOINT, MODEL, RESULT):
            for path in (self.path / name, self.path / (name + PARTIAL)):
                path.unlink(missing_ok=True)
        if (self.path / CURVES).is_dir():
            shutil.rmtree(self.path / CURVES)

    def write_configuration(self, config: TrainingConfig) -> None:
        """Write config.yaml, every key of it."""
        write_text_durably(self.path / CONFIGURATION, format_configuration(config))

    def record_start(self, circumstances: Mapping[str, Any], seed: int, processes: int,
                     saved: Mapping[str, Any] | None) -> None:
        """Add a start, or a resumption of what was saved, to run.json."""
        path = self.path / RECORD
        starts = json.loads(path.read_text())['starts'] if saved and path.exists() else []
        starts.append({
            'time': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'command': sys.argv, 'processes': processes,
            'resumed': {'stage': saved['stage'], 'iteration': saved['loop']['iteration']}
            if saved else None})
        self._write_json(path, {**circumstances, 'seed': seed, 'starts': starts})

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json."""
        self._write_json(self.path / RESULT, result)

    @staticmethod
    def _write_json(path: Path, values: Mapping[str, Any]) -> None:
        write_text_durably(path, json.dumps(values, indent=1) + '\n')
