# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Finds a way to render without a screen, and says what to install where there is none."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import subprocess
import sys
from typing import Any

from implicit_relocalizer.data.frames import SceneError

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 120.0

# A broken driver crashes the process rather than raising, hence a program of its own.
_PROBE = """
import sys
import vtkmodules.vtkRenderingOpenGL2 as opengl
from vtkmodules.vtkCommonCore import vtkUnsignedCharArray
from vtkmodules.vtkRenderingCore import vtkRenderer
window = getattr(opengl, sys.argv[1])()
window.SetOffScreenRendering(True)
window.SetSize(8, 8)
renderer = vtkRenderer()
renderer.SetBackground(1.0, 0.0, 0.0)
window.AddRenderer(renderer)
window.Render()
pixels = vtkUnsignedCharArray()
window.GetPixelData(0, 0, 7, 7, 0, pixels, 0)
sys.exit(0 if [pixels.GetValue(i) for i in range(3)] == [255, 0, 0] else 3)
"""


def make_offscreen_window() -> Any:
    """Return a new VTK render window that draws into memory.

    Raises:
        SceneError: VTK is not installed, or the machine has no library that it can draw with.
    """
    window_class = find_window_class()
    import vtkmodules.vtkRenderingOpenGL2

    window = getattr(vtkmodules.vtkRenderingOpenGL2, window_class)()
    window.SetOffScreenRendering(True)
    return window


@functools.cache
def find_window_class() -> str:
    """Name the first VTK window class that draws here: EGL, then OSMesa, then X if it runs.

    EGL is tried first even where an X server runs: it opens no connection and, with Mesa, needs
    no graphics card.

    Raises:
        SceneError: as for `make_offscreen_window`.
    """
    if importlib.util.find_spec('vtkmodules') is None:
        raise SceneError("the synthetic place needs VTK, which is not installed; "
                         "pip install 'implicit_relocalizer[demo]'")
    window_classes = ['vtkEGLRenderWindow', 'vtkOSOpenGLRenderWindow']
    if os.environ.get('DISPLAY'):
        window_classes.append('vtkXOpenGLRenderWindow')
    failures = []
    for window_class in window_classes:
        failure = _probe(window_class)
        if failure is None:
            logger.debug('rendering with %s', window_class)
            return window_class
        failures.append(f'{window_class}: {failure}')
    raise SceneError(
        'VTK cannot draw on this machine. It needs EGL or OSMesa from Mesa; on Debian or Ubuntu: '
        'sudo apt-get install libegl1 libgl1-mesa-dri   (or, where it exists: libosmesa6). '
        'What was tried: ' + '; '.join(failures))


def _probe(window_class: str) -> str | None:
    """Draw one picture in a process of its own and return what went wrong, if anything."""
    try:
        result = subprocess.run([sys.executable, '-c', _PROBE, window_class],
                                capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f'no picture after {PROBE_TIMEOUT_S:.0f} s'
    if result.returncode == 0:
        return None
    if result.returncode < 0:
        return f'crashed with signal {-result.returncode}'
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return lines[-1].strip()[-160:] if lines else f'exit status {result.returncode}'
