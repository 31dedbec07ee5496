# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Matrices and tables in text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, SceneError


def read_matrix(path: Path, shape: tuple[int, int]) -> Float64Array:
    """Read a table of numbers; NaN and infinity are left to the caller.

    Raises:
        SceneError: missing, no numbers, or another shape.
    """
    # Not numpy.loadtxt: it takes what follows the # of Microsoft's NaN, -1.#IND, for a comment.
    rows: list[list[float]] = []
    for _, words in data_lines(path, f'a {shape[0]}x{shape[1]} matrix'):
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise SceneError(f'{path}: not a table of numbers ({error})') from None
    columns = sorted({len(row) for row in rows}) or [0]
    if len(rows) != shape[0] or columns != [shape[1]]:
        found = f'{len(rows)} rows of {" or ".join(map(str, columns))} numbers'
        raise SceneError(f'{path}: {found}, expected {shape[0]} rows of {shape[1]}')
    return np.array(rows, np.float64)


def read_intrinsics(path: Path) -> Float64Array:
    """Read a 3x3 pinhole matrix and check that it is one.

    Raises:
        SceneError: missing or no camera matrix.
    """
    K_33 = read_matrix(path, (3, 3))
    if not np.isfinite(K_33).all():
        raise SceneError(f'{path}: holds NaN or infinity')
    if K_33[0, 0] <= 0 or K_33[1, 1] <= 0 or not np.allclose(K_33[2], [0, 0, 1]):
        raise SceneError(f'{path}: {K_33.tolist()} is no camera matrix; '
                         f'expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0')
    return K_33


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> Float64Array:
    """The 3x3 intrinsics of these four numbers."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def read_lines(path: Path, purpose: str) -> list[str]:
    """The lines of a text file.

    Raises:
        SceneError: missing (says its `purpose`), or no text.
    """
    try:
        return path.read_text(encoding='utf-8-sig').splitlines()
    except FileNotFoundError:
        raise SceneError(f'{path}: missing; expected {purpose}') from None
    except UnicodeDecodeError as error:
        raise SceneError(f'{path}: no text file ({error})') from None


def data_lines(path: Path, purpose: str) -> Iterator[tuple[str, list[str]]]:
    """'file, line n' and the words of each line that is neither empty nor a # comment."""
    for number, line in enumerate(read_lines(path, purpose), start=1):
        if line.strip() and not line.lstrip().startswith('#'):
            yield f'{path}, line {number}', line.split()


def numbers(words: list[str], source: object) -> list[float]:
    """Words as numbers.

    Raises:
        SceneError: one of them is none.
    """
    try:
        return [float(word) for word in words]
    except ValueError:
        raise SceneError(f'{source}: expected numbers, found {" ".join(words)!r}') from None
