# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill at any moment and resume where they were."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from implicit_relocalizer.training.durable import write_durably

FORMAT = 2


class CheckpointError(RuntimeError):
    """A checkpoint cannot be resumed; the message names the file, the reason and the remedy."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write durably: the old checkpoint stays until the new one is whole."""
    write_durably(path, lambda file: torch.save({**state, 'format': FORMAT}, file))


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint of the same run; None where there is none.

    Args:
        path: The file.
        identity: What must be the same as when it was written, under the key 'identity'.

    Raises:
        CheckpointError: unreadable, or of another configuration, scene or version.
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
    if state.get('format') != FORMAT:
        raise CheckpointError(f'{path}: was made by another version of this program; choose '
                              f'another --output, or pass --restart to throw it away')
    known = state.get('identity', {})
    different = sorted(key for key in identity if known.get(key) != identity[key])
    if different:
        changes = _changes(known, identity)
        raise CheckpointError(
            f'{path}: was made with another {", ".join(different)} ({"; ".join(changes[:3])}'
            f'{"; ..." if len(changes) > 3 else ""}); choose another --output, or pass --restart '
            f'to throw it away')
    return state


def _changes(known: Any, wanted: Any, name: str = '') -> list[str]:
    """What differs, key by key: 'seed was 0, is 7'."""
    if isinstance(known, Mapping) and isinstance(wanted, Mapping):
        return [change for key in sorted({*known, *wanted})
                for change in _changes(known.get(key), wanted.get(key),
                                       f'{name}.{key}' if name else str(key))]
    label = name.removeprefix('configuration.')
    return [] if known == wanted else [f'{label} was {known}, is {wanted}']
