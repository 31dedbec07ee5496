# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""All formats, and one function that reads any of them."""

from __future__ import annotations

from pathlib import Path

from implicit_relocalizer.data.frames import Scene, SceneError
from implicit_relocalizer.data.readers import (
    cambridge,
    colmap,
    folder,
    ros_bag,
    seven_scenes,
    transforms_json,
    tum_rgbd,
    twelve_scenes,
)
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.resizing import limit_width
from implicit_relocalizer.data.splits import STANDARD

# A new format is one file in `readers` and one line here.
FORMATS: tuple[SceneFormat, ...] = (
    folder.FORMAT,
    seven_scenes.FORMAT,
    twelve_scenes.FORMAT,
    cambridge.FORMAT,
    colmap.FORMAT,
    transforms_json.FORMAT,
    tum_rgbd.FORMAT,
    ros_bag.FORMAT,
)


def format_names() -> list[str]:
    """What `--format` may be."""
    return [scene_format.name for scene_format in FORMATS]


def read_scene(root: Path, format: str | None = None, split: str = STANDARD,
               max_width: int | None = None, **options: object) -> Scene:
    """Read a scene in any of the known formats.

    Args:
        root: Folder or file.
        format: One of `format_names()`; detected when None.
        split: `splits/SPLIT.txt`, or 'standard': the benchmark's own split, or every 8th frame.
        max_width: Images wider than that are made smaller while they are decoded.
        options: For the format's reader; those that are None count as not given.

    Raises:
        SceneError: unknown or ambiguous format, an option that the format does not take, or a
            scene that cannot be used; the message names the file, the value and the remedy.
    """
    root = Path(root)
    chosen = _format(format) if format is not None else detect_format(root)
    if not root.exists():
        raise SceneError(f'{root}: no such scene; the format {chosen.name} needs {chosen.needs}')
    given = {name: value for name, value in options.items() if value is not None}
    wrong = sorted(given.keys() - chosen.options)
    if wrong:
        takers = [f.name for f in FORMATS if wrong[0] in f.options]
        raise SceneError(f'{root}: {wrong[0]} = {given[wrong[0]]!s} does not go with the format '
                         f'{chosen.name}, only with {", ".join(takers) or "none"}')
    scene = chosen.read(root, split, **given)
    return scene if max_width is None else limit_width(scene, max_width)


def detect_format(root: Path) -> SceneFormat:
    """The one format that a folder or file looks like.

    Raises:
        SceneError: it does not exist, looks like none, or like several.
    """
    if not root.exists():
        raise SceneError(f'{root}: no such folder or file')
    matching = [scene_format for scene_format in FORMATS if scene_format.matches(root)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ' and '.join(scene_format.name for scene_format in matching)
        raise SceneError(f'{root}: looks like {names}; say which with --format\n'
                         f'{_needs(matching)}')
    raise SceneError(f'{root}: looks like no known format. What each of them needs:\n'
                     f'{_needs(FORMATS)}')


def _format(name: str) -> SceneFormat:
    for scene_format in FORMATS:
        if scene_format.name == name:
            return scene_format
    raise SceneError(f'no format is named {name!r}; there are {", ".join(format_names())}')


def _needs(formats: tuple[SceneFormat, ...] | list[SceneFormat]) -> str:
    width = max(len(scene_format.name) for scene_format in formats)
    return '\n'.join(f'  {f.name:{width}s}  {f.needs}' for f in formats)
