# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures drawn by the seed: paintings, posters, maps, book spines, screens, the view outside."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from implicit_relocalizer.data.synthetic.patches import Material, Picture
from implicit_relocalizer.data.synthetic.textures import (
    Kit,
    Rgb,
    hsv,
    shaded,
    smooth_noise,
    to_picture,
)

WORDS = [
    'atlas', 'river', 'garden', 'signal', 'harbour', 'cinema', 'north', 'orchestra', 'paper',
    'lantern', 'winter', 'museum', 'compass', 'velvet', 'summer', 'archive', 'bicycle',
    'coffee', 'meadow', 'machine', 'island', 'theory', 'copper', 'festival', 'ocean', 'design',
    'journey', 'sparrow', 'mountain', 'letters', 'modern', 'station', 'orbit']
OVERSAMPLING = 2


def rgb8(color: Rgb) -> tuple[int, int, int]:
    """A colour as PIL takes it."""
    red, green, blue = (round(255 * min(max(c, 0.0), 1.0)) for c in color)
    return red, green, blue


def palette(kit: Kit, count: int = 5) -> list[Rgb]:
    """Colours that go together: a few neighbouring hues, an accent, a dark and a light one."""
    hue = kit.uniform(0, 1)
    colors = [hsv(hue + 0.06 * i + (0.5 if i == 1 else 0.0), kit.uniform(0.35, 0.8),
                  kit.uniform(0.4, 0.9)) for i in range(count - 2)]
    return [hsv(hue, 0.15, 0.94), hsv(hue + 0.1, 0.5, 0.22), *colors]


def words(kit: Kit, count: int) -> str:
    """A few words."""
    return ' '.join(WORDS[i] for i in kit.rng.integers(len(WORDS), size=count))


def font(size_px: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """PIL's own font at a height in pixels."""
    return ImageFont.load_default(size=max(6.0, size_px))


class Canvas:
    """A drawing in units of its own height: x in [0, aspect], y in [0, 1], y downwards."""

    def __init__(self, kit: Kit, width_m: float, height_m: float, color: Rgb,
                 scale: float = 1.0) -> None:
        rows, columns = kit.shape_px(width_m, height_m, scale)
        self.rows, self.columns = rows, columns
        self.unit = rows * OVERSAMPLING
        self.aspect = columns / rows
        self.image = Image.new('RGB', (columns * OVERSAMPLING, self.unit), rgb8(color))
        self.pen = ImageDraw.Draw(self.image)

    def polygon(self, points: list[tuple[float, float]], color: Rgb) -> None:
        """Fill a polygon."""
        self.pen.polygon([(x * self.unit, y * self.unit) for x, y in points], fill=rgb8(color))

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, color: Rgb) -> None:
        """Fill a rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)

    def circle(self, x: float, y: float, radius: float, color: Rgb) -> None:
        """Fill a disc."""
        self.pen.ellipse([(x - radius) * self.unit, (y - radius) * self.unit,
                          (x + radius) * self.unit, (y + radius) * self.unit], fill=rgb8(color))

    def line(self, points: list[tuple[float, float]], width: float, color: Rgb) -> None:
        """Draw a polyline."""
        self.pen.line([(x * self.unit, y * self.unit) for x, y in points], fill=rgb8(color),
                      width=max(1, round(width * self.unit)), joint='curve')

    def text(self, x: float, y: float, text: str, height: float, color: Rgb) -> None:
        """Write text with its upper left corner at a point."""
        self.pen.text((x * self.unit, y * self.unit), text, fill=rgb8(color),
                      font=font(height * self.unit))

    def picture(self, grain: float = 0.0, rng: np.random.Generator | None = None) -> Picture:
        """The finished picture, optionally with a grain of canvas or paper."""
        small = self.image.resize((self.columns, self.rows), Image.Resampling.BOX)
        if grain == 0.0 or rng is None:
            return np.asarray(small).copy()
        noise = smooth_noise((self.rows, self.columns), (3, 3), rng, 2)
        return to_picture(np.asarray(small) / 255.0 * (1 + grain * noise[..., None]))


def _discs(canvas: Canvas, kit: Kit, colors: list[Rgb]) -> None:
    for _ in range(kit.integer(7, 12)):
        x, y, radius = kit.uniform(0, canvas.aspect), kit.uniform(0, 1), kit.uniform(0.05, 0.28)
        for ring in range(kit.integer(1, 3)):
            canvas.circle(x, y, radius * (1 - 0.3 * ring), colors[kit.integer(1, 4)])
    for _ in range(5):
        canvas.line([(kit.uniform(0, canvas.aspect), kit.uniform(0, 1)) for _ in range(2)],
                    kit.uniform(0.006, 0.03), colors[1])


def _landscape(canvas: Canvas, kit: Kit, colors: list[Rgb]) -> None:
    canvas.circle(kit.uniform(0.2, 0.8) * canvas.aspect, kit.uniform(0.15, 0.35),
                  kit.uniform(0.06, 0.13), hsv(kit.uniform(0.02, 0.14), 0.6, 1.0))
    for layer in range(5):
        base = 0.35 + 0.13 * layer
        waves = [(kit.uniform(1, 6), kit.uniform(0, 6), kit.uniform(0.02, 0.07))
                 for _ in range(3)]
        x = np.linspace(0, canvas.aspect, 60)
        y = base + np.sum([a * np.sin(f * x * 2 + p) for f, p, a in waves], axis=0)
        tone = shaded(colors[2 + layer % 3], 1.1 - 0.17 * layer)
        ridge = [(float(a), float(b)) for a, b in np.stack([x, y], axis=1)]
        canvas.polygon([*ridge, (canvas.aspect, 1.0), (0.0, 1.0)], tone)
    for _ in range(kit.integer(4, 9)):
        x0, y0, h = kit.uniform(0, canvas.aspect), kit.uniform(0.7, 0.95), kit.uniform(0.1, 0.25)
        canvas.polygon([(x0, y0 - h), (x0 + 0.25 * h, y0), (x0 - 0.25 * h, y0)], colors[1])


def _blocks(canvas: Canvas, kit: Kit, colors: list[Rgb]) -> None:
    def split(x0: float, y0: float, x1: float, y1: float, depth: int) -> None:
        if depth == 0 or (depth < 3 and kit.chance(0.25)):
            canvas.rectangle(x0, y0, x1, y1, colors[kit.integer(0, 4)])
            canvas.line([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], 0.014, colors[1])
            return
        cut = kit.uniform(0.3, 0.7)
        if x1 - x0 > y1 - y0:
            middle = x0 + cut * (x1 - x0)
            split(x0, y0, middle, y1, depth - 1)
            split(middle, y0, x1, y1, depth - 1)
        else:
            middle = y0 + cut * (y1 - y0)
            split(x0, y0, x1, middle, depth - 1)
            split(x0, middle, x1, y1, depth - 1)
    split(0, 0, canvas.aspect, 1, 5)


def _map(canvas: Canvas, kit: Kit, colors: list[Rgb]) -> None:
    for _ in range(14):
        x, y = kit.uniform(0, canvas.aspect), kit.uniform(0, 1)
        canvas.polygon([(x + kit.uniform(-0.15, 0.15), y + kit.uniform(-0.15, 0.15))
                        for _ in range(5)], colors[kit.integer(2, 4)])
    river = [(canvas.aspect * t, 0.5 + 0.25 * math.sin(5 * t + kit.uniform(0, 0.6)))
             for t in np.linspace(0, 1, 20)]
    canvas.line(river, 0.05, hsv(0.57, 0.5, 0.8))
    for _ in range(28):
        x, y, angle = kit.uniform(0, canvas.aspect), kit.uniform(0, 1), kit.uniform(0, 3.1)
        reach = kit.uniform(0.1, 0.8)
        canvas.line([(x - reach * math.cos(angle), y - reach * math.sin(angle)),
                     (x + reach * math.cos(angle), y + reach * math.sin(angle))],
                    kit.uniform(0.004, 0.014), colors[1])
    canvas.rectangle(0.05, 0.05, 0.5, 0.2, colors[0])
    canvas.text(0.07, 0.07, words(kit, 1).upper(), 0.09, colors[1])


def _text_poster(canvas: Canvas, kit: Kit, colors: list[Rgb]) -> None:
    canvas.rectangle(0, 0, canvas.aspect, 0.42, colors[2])
    for _ in range(6):
        canvas.circle(kit.uniform(0, canvas.aspect), kit.uniform(0.05, 0.4),
                      kit.uniform(0.03, 0.15), colors[kit.integer(0, 4)])
    for i, word in enumerate(words(kit, 3).split()):
        canvas.text(0.05, 0.44 + 0.12 * i, word.upper(), 0.11, colors[1 if i else 3])
    for i in range(5):
        canvas.text(0.05, 0.82 + 0.032 * i, words(kit, 5), 0.026, colors[1])


def _leaves(canvas: Canvas, kit: Kit, colors: list[Rgb]) -> None:
    for _ in range(kit.integer(10, 16)):
        x, y = kit.uniform(0.05, canvas.aspect - 0.05), kit.uniform(0.3, 1.05)
        angle, length = kit.uniform(-0.8, 0.8) - math.pi / 2, kit.uniform(0.2, 0.5)
        tip = (x + length * math.cos(angle), y + length * math.sin(angle))
        side = (0.16 * length * math.sin(angle), -0.16 * length * math.cos(angle))
        middle = (x + 0.55 * (tip[0] - x), y + 0.55 * (tip[1] - y))
        canvas.polygon([(x, y), (middle[0] + side[0], middle[1] + side[1]), tip,
                        (middle[0] - side[0], middle[1] - side[1])], colors[kit.integer(2, 4)])
        canvas.line([(x, y), tip], 0.008, colors[1])


def _skyline(canvas: Canvas, kit: Kit, colors: list[Rgb]) -> None:
    for layer in range(3):
        x = -0.05
        while x < canvas.aspect:
            width, top = kit.uniform(0.06, 0.16), kit.uniform(0.15, 0.6) + 0.12 * layer
            tone = shaded(colors[2 + layer], 1.0 - 0.25 * layer)
            canvas.rectangle(x, top, x + width, 1, tone)
            for row in np.arange(top + 0.03, 0.97, 0.05):
                for column in np.arange(x + 0.015, x + width - 0.02, 0.028):
                    if kit.chance(0.4):
                        canvas.rectangle(column, row, column + 0.013, row + 0.025, colors[0])
            x += width + kit.uniform(0, 0.03)


STYLES: tuple[Callable[[Canvas, Kit, list[Rgb]], None], ...] = (
    _discs, _landscape, _blocks, _map, _text_poster, _leaves, _skyline)


def art(kit: Kit, style: int | None = None) -> Material:
    """A painting, print or poster in a style of its own."""
    kit = kit.child()
    chosen = STYLES[kit.integer(0, len(STYLES) - 1) if style is None else style % len(STYLES)]
    colors = palette(kit)

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, colors[0], 1.3)
        chosen(canvas, kit, colors)
        return canvas.picture(0.025, kit.rng)
    return paint


def view_outside(kit: Kit) -> Material:
    """Sky with clouds, hills, houses and trees: what the windows show."""
    kit = kit.child()

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, hsv(0.58, 0.25, 0.95), 0.12)
        _landscape(canvas, kit, [hsv(0.58, 0.2, 0.9), hsv(0.33, 0.4, 0.45)]
                   + [hsv(kit.uniform(0.25, 0.45), 0.3, 0.72) for _ in range(3)])
        for _ in range(int(5 * canvas.aspect)):
            x, ground = kit.uniform(0, canvas.aspect), kit.uniform(0.72, 0.95)
            if kit.chance(0.45):
                _house(canvas, kit, x, ground)
            else:
                _tree(canvas, kit, x, ground)
        clouds = smooth_noise((canvas.rows, canvas.columns),
                              (0.1 * canvas.rows, 0.3 * canvas.rows), kit.rng, 4)
        sky = np.linspace(1.2, -1.2, canvas.rows)[:, None]
        cover = np.clip(clouds * 0.7 + sky, 0, 1)[..., None] * 0.7
        soft = np.asarray(Image.fromarray(canvas.picture()).filter(ImageFilter.GaussianBlur(0.7)))
        return to_picture((soft / 255.0) * (1 - cover) + 0.98 * cover)
    return paint


def _house(canvas: Canvas, kit: Kit, x: float, ground: float) -> None:
    width, height = kit.uniform(0.12, 0.26), kit.uniform(0.12, 0.24)
    canvas.rectangle(x, ground - height, x + width, ground + 0.02,
                     hsv(kit.uniform(0.0, 0.16), kit.uniform(0.1, 0.4), kit.uniform(0.7, 0.9)))
    canvas.polygon([(x - 0.02, ground - height), (x + width / 2, ground - height - 0.1),
                    (x + width + 0.02, ground - height)], hsv(0.02, 0.5, kit.uniform(0.4, 0.65)))
    for row in np.arange(ground - height + 0.02, ground - 0.03, 0.055):
        for column in np.arange(x + 0.02, x + width - 0.02, 0.045):
            canvas.rectangle(column, row, column + 0.022, row + 0.03, hsv(0.6, 0.4, 0.35))


def _tree(canvas: Canvas, kit: Kit, x: float, ground: float) -> None:
    canvas.rectangle(x - 0.008, ground - 0.12, x + 0.008, ground, hsv(0.08, 0.5, 0.35))
    for _ in range(16):
        canvas.circle(x + kit.uniform(-0.06, 0.06), ground - kit.uniform(0.08, 0.26),
                      kit.uniform(0.02, 0.05), hsv(kit.uniform(0.22, 0.36), 0.5,
                                                   kit.uniform(0.35, 0.7)))
