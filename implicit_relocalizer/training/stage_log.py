# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Curves of a stage for TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)

FOLDER = 'tensorboard'


class StageLog:
    """Writes numbers by step, or nothing where the `tensorboard` package is missing.

    Each stage is a TensorBoard run of its own, so that steps of one never hide the other's.

    Args:
        run_dir: Gets `tensorboard/STAGE`; None writes nothing.
        stage: Name of the stage.
        first_step: Steps from here on that an interrupted run left are withdrawn.
    """

    def __init__(self, run_dir: Path | None, stage: str, first_step: int) -> None:
        self._writer: Any = None
        if run_dir is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info('no curves are logged: pip install tensorboard to have them')
            return
        self._writer = SummaryWriter(str(run_dir / FOLDER / stage), purge_step=first_step)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def __enter__(self) -> StageLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
