# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a reader says about its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from implicit_relocalizer.data.frames import Scene


@dataclass(frozen=True)
class SceneFormat:
    """A way in which scenes lie on disk.

    Attributes:
        name: As `--format` takes it.
        needs: What a folder of this format holds, in one line, for messages.
        matches: Whether a path, which exists, looks like this format; quick and never raising.
        read: Called with the path, the split's name and the options given.
        options: Names of the keyword arguments that `read` takes beside path and split.
    """

    name: str
    needs: str
    matches: Callable[[Path], bool]
    read: Callable[..., Scene]
    options: frozenset[str] = frozenset()
