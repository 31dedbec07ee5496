# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Files that survive a kill or a power cut at any moment: the old one, or the new one, whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PARTIAL = '.partial'


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file by what `write` puts into a stream."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open('wb') as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the new name is on the disk only when the folder is
    finally:
        os.close(folder)


def write_text_durably(path: Path, text: str) -> None:
    """Replace a file by a text."""
    write_durably(path, lambda file: file.write(text.encode()))
