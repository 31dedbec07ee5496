# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the files that are installed beside the code: configuration and launch files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = 'implicit_relocalizer'


def share_path(relative: str) -> Path:
    """Find a shared file, such as 'config/train/mapping.yaml'.

    A checkout is asked first, so that an edited configuration is the one that is used; then
    share/implicit_relocalizer of the installation (pip, colcon) that this module belongs to.

    Raises:
        FileNotFoundError: found nowhere; the message names every place.
    """
    places = list(dict.fromkeys(_share_folders()))
    for folder in places:
        if (folder / relative).exists():
            return folder / relative
    looked = ', '.join(str(folder) for folder in places)
    raise FileNotFoundError(f'{relative}: not among the files of {PACKAGE}, looked in {looked}; '
                            f'check the name or install the package again')


def _share_folders() -> Iterator[Path]:
    module = Path(__file__).resolve()
    if (module.parents[1] / 'package.xml').is_file():
        yield module.parents[1]
    # <prefix>/lib/pythonX.Y/site-packages/implicit_relocalizer, whatever the scheme in between.
    for prefix in (*module.parents, Path(sys.prefix)):
        folder = prefix / 'share' / PACKAGE
        if folder.is_dir():
            yield folder
