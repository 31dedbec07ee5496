# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill at any moment and resume where they were."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


class CheckpointError(RuntimeError):
    """A checkpoint cannot be resumed; the message names the file, the reason and the remedy."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: the old checkpoint stays until the new one is whole."""
    partial = path.with_name(path.name + '.partial')
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint of the same run; None where there is none.

    Args:
        path: The file.
        identity: What must be the same as when it was written, under the key 'identity'.

    Raises:
        CheckpointError: unreadable, or of another configuration or scene.
    """
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f'{path}: cannot be read (no checkpoint, or cut off); '
                              f'delete it to start over')
    try:
        state: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f'{path}: cannot be read ({str(error).splitlines()[0]}); '
                              f'delete it to start over') from error
    known = state.get('identity', {})
    different = sorted(key for key in identity if known.get(key) != identity[key])
    if different:
        raise CheckpointError(
            f'{path}: was made with another {", ".join(different)}; choose another --output, '
            f'or pass --restart to throw it away')
    return state
