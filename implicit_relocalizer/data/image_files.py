# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image files as readers look at them: found, measured and whole, without decoding them all."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from implicit_relocalizer.data.frames import SceneError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
# How whole files end; writers may pad.
_ENDS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND'}
_TAIL_BYTES = 64


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of an image whose file is whole.

    Raises:
        SceneError: missing, no image, or cut off.
    """
    try:
        with Image.open(path) as image:
            size = image.size
            if not _ends_well(path, image.format or ''):
                image.load()
            return size
    except FileNotFoundError:
        raise SceneError(f'{path}: no such image') from None
    except UnidentifiedImageError:
        raise SceneError(f'{path}: not a readable image ({_size_text(path)})') from None
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's for a broken PNG
        raise SceneError(f'{path}: cut off or damaged ({error})') from None


def find_image(path: Path) -> Path:
    """The image of this name, also where the name lacks its suffix or has another's.

    Raises:
        SceneError: there is none.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return path
    bare = path.with_suffix('') if path.suffix.lower() in IMAGE_SUFFIXES else path
    for suffix in (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)):
        candidate = bare.with_name(bare.name + suffix)
        if candidate.is_file():
            return candidate
    raise SceneError(f'{path}: no such image')


def without_image_suffix(name: str) -> str:
    """A frame's name from an image's: slashes forward, no leading ./ and no image suffix."""
    name = name.strip().replace('\\', '/').removeprefix('./')
    stem, dot, suffix = name.rpartition('.')
    return stem if dot and f'.{suffix.lower()}' in IMAGE_SUFFIXES else name


def _ends_well(path: Path, image_format: str) -> bool:
    end = _ENDS.get(image_format)
    if end is None:
        return False
    with path.open('rb') as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return end in file.read()


def _size_text(path: Path) -> str:
    return f'{path.stat().st_size} bytes' if path.is_file() else 'no file'
