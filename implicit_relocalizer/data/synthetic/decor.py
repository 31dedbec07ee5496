# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Flat things on walls and floor: framed pictures, a pin board, a clock, rugs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from implicit_relocalizer.data.synthetic.artwork import Canvas, art
from implicit_relocalizer.data.synthetic.items import (
    DARK,
    WHITE,
    cloth_color,
    printed_sheet,
    wood_color,
)
from implicit_relocalizer.data.synthetic.patches import (
    Patch,
    Picture,
    box,
    moved,
    quad,
    shadowless,
)
from implicit_relocalizer.data.synthetic.textures import Kit, Rgb, hsv


def picture_frame(kit: Kit, width: float, height: float, style: int | None = None,
                  mount: float = 0.0) -> list[Patch]:
    """A framed picture whose back is at y = 0 and whose middle is at the origin."""
    color = [DARK, wood_color(kit), WHITE][kit.integer(0, 2)]
    frame, w, h, b = kit.wood(color, 0.5), width / 2, height / 2, 0.022
    patches = box([-w, -0.02, h - b], [w, 0, h], frame, omit=('back',))
    patches += box([-w, -0.02, -h], [w, 0, -h + b], frame, omit=('back',))
    patches += box([-w, -0.02, -h + b], [-w + b, 0, h - b], frame, omit=('back',))
    patches += box([w - b, -0.02, -h + b], [w, 0, h - b], frame, omit=('back',))
    if mount:
        patches.append(quad([-w + b, -0.007, h - b], [2 * (w - b), 0, 0], [0, 0, -2 * (h - b)],
                            kit.plain(WHITE)))
        b += mount
    patches.append(quad([-w + b, -0.01, h - b], [2 * (w - b), 0, 0], [0, 0, -2 * (h - b)],
                        art(kit, style)))
    return shadowless(patches)


def notice_board(kit: Kit, width: float, height: float) -> list[Patch]:
    """A pin board with notes, back at y = 0 and middle at the origin."""
    frame, cork = kit.wood(wood_color(kit)), kit.plaster((0.72, 0.55, 0.36), 0.06, 0.04)
    patches = box([-width / 2, -0.015, -height / 2], [width / 2, 0, height / 2], frame,
                  faces={'front': cork}, omit=('back',))
    for i in range(kit.integer(7, 11)):
        w, h = kit.uniform(0.12, 0.22), kit.uniform(0.1, 0.25)
        tint = [WHITE, hsv(kit.uniform(0, 1), 0.3, 0.95)][kit.integer(0, 1)]
        note = [quad([-w / 2, 0, h / 2], [w, 0, 0], [0, 0, -h], printed_sheet(kit, tint))]
        patches += moved(note, (kit.uniform(-1, 1) * (width / 2 - w), -0.017 - 0.001 * i,
                                kit.uniform(-1, 1) * (height / 2 - h / 2 - 0.03)))
    return shadowless(patches)


def rug(kit: Kit, width: float, depth: float) -> Patch:
    """A patterned rug about the origin."""
    colors: Sequence[Rgb] = [cloth_color(kit, 0.25, 0.5), cloth_color(kit, 0.5, 0.8),
                             (0.85, 0.8, 0.7), cloth_color(kit, 0.3, 0.7)]
    kit = kit.child()

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, colors[0], 0.8)
        a = canvas.aspect
        for i, inset in enumerate((0.03, 0.05, 0.12, 0.14, 0.2)):
            canvas.rectangle(inset, inset, a - inset, 1 - inset, colors[(i + 1) % 4])
        for _ in range(9):
            x, y, size = kit.uniform(0.3, a / 2), kit.uniform(0.28, 0.5), kit.uniform(0.04, 0.12)
            color = colors[kit.integer(0, 3)]
            for cx, cy in ((x, y), (a - x, y), (x, 1 - y), (a - x, 1 - y)):
                canvas.polygon([(cx - size, cy), (cx, cy - size), (cx + size, cy),
                                (cx, cy + size)], color)
        for t in np.arange(0.07, a - 0.07, 0.07):
            for y in (0.085, 0.915):
                canvas.circle(t, y, 0.018, colors[1])
        return canvas.picture(0.08, kit.rng)
    return quad([-width / 2, depth / 2, 0.007], [width, 0, 0], [0, -depth, 0], paint)


def clock(kit: Kit, x: float, z: float) -> list[Patch]:
    """A wall clock with its middle at (x, z) of a wall."""
    kit = kit.child()
    hours = [kit.uniform(0, 6.28) for _ in range(2)]

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, WHITE, 1.4)
        canvas.circle(0.5, 0.5, 0.49, DARK)
        canvas.circle(0.5, 0.5, 0.45, WHITE)
        for i in range(12):
            c, s = np.sin(i * np.pi / 6), -np.cos(i * np.pi / 6)
            canvas.line([(0.5 + 0.38 * c, 0.5 + 0.38 * s), (0.5 + 0.43 * c, 0.5 + 0.43 * s)],
                        0.03, DARK)
            canvas.text(0.47 + 0.31 * c, 0.45 + 0.31 * s, str(i or 12), 0.09, DARK)
        for angle, reach in zip(hours, (0.22, 0.36), strict=True):
            canvas.line([(0.5, 0.5), (0.5 + reach * np.sin(angle), 0.5 - reach * np.cos(angle))],
                        0.03, (0.6, 0.1, 0.1))
        return canvas.picture()
    return shadowless(box([x - 0.16, -0.03, z - 0.16], [x + 0.16, 0, z + 0.16], kit.plain(DARK),
                          faces={'front': paint}, omit=('back',)))
