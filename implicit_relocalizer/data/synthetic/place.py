# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Furnishes a room: what stands where, chosen by the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from implicit_relocalizer.data.frames import Float64Array
from implicit_relocalizer.data.synthetic import decor, seating, shell, storage
from implicit_relocalizer.data.synthetic.items import Item
from implicit_relocalizer.data.synthetic.lighting import PointLight, Sun
from implicit_relocalizer.data.synthetic.patches import Patch, box, moved, shadowless, tube
from implicit_relocalizer.data.synthetic.textures import Kit

CEILING_M = 2.7
CORNER_M = 1.0
HANGING_LOW_M, HANGING_HIGH_M = 1.05, 2.4


@dataclass(frozen=True, eq=False)
class Place:
    """A furnished room with one corner at the origin, x along its length, z up, metres.

    Attributes:
        patches: All surfaces.
        lights: Lamps and windows.
        sun: Sunlight through the windows.
        size_m: (x, y, z) extent of the inside.
        obstacles: (corners, 2) outlines on the floor of what a robot must not touch.
    """

    patches: list[Patch]
    lights: list[PointLight]
    sun: Sun
    size_m: tuple[float, float, float]
    obstacles: list[Float64Array]


class _Furnisher:
    """Collects what has been placed."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.patches: list[Patch] = []
        self.lights: list[PointLight] = []
        self.obstacles: list[Float64Array] = []

    def add(self, item: Item) -> None:
        self.patches += item.patches
        self.lights += item.lights

    def against(self, wall: shell.Wall, item: Item, x: float) -> None:
        self.add(wall.place(item, x))
        half = item.width_m / 2
        self.block(np.array([[x - half, 0.0], [x + half, 0.0], [x + half, -item.depth_m],
                              [x - half, -item.depth_m]]), wall.center[:2], wall.yaw)

    def free_standing(self, item: Item, middle: tuple[float, float], yaw: float) -> None:
        self.add(item.placed((*middle, 0.0), yaw))
        w, d = item.width_m / 2, item.depth_m / 2
        self.block(np.array([[-w, -d], [w, -d], [w, d], [-w, d]]), middle, yaw)

    def block(self, outline_n2: Float64Array, offset: tuple[float, ...], yaw: float) -> None:
        c, s = np.cos(yaw), np.sin(yaw)
        self.obstacles.append(outline_n2 @ np.array([[c, s], [-s, c]]) + np.asarray(offset[:2]))

    def row(self, wall: shell.Wall, builders: list[Callable[[Kit], Item]],
            margin_m: float) -> list[float]:
        """Stand items side by side in random order, spread over the wall; return their places.

        Leaves out the last ones of the list where the wall is too short for all.
        """
        kit = self.kit
        items = [build(kit.child()) for build in builders]
        room = wall.length_m - 2 * margin_m
        while sum(item.width_m for item in items) + 0.1 * len(items) > room:
            items.pop()
        slack = room - sum(item.width_m for item in items)
        shares = kit.rng.dirichlet(np.full(len(items) + 1, 4.0)) * slack
        x, places = -wall.length_m / 2 + margin_m, [0.0] * len(items)
        for index, share in zip(kit.rng.permutation(len(items)), shares[1:], strict=True):
            x += share + items[index].width_m / 2
            self.against(wall, items[index], x)
            places[index] = x
            x += items[index].width_m / 2
        return places


def furnish(seed: int, density_px_m: float, attempt: int = 0) -> Place:
    """Build the room of a seed; pictures have `density_px_m` pixels per metre of surface.

    Another `attempt` furnishes it in another way.
    """
    kit = Kit(np.random.default_rng([seed, attempt]), density_px_m)
    width, depth = kit.uniform(6.8, 7.3), kit.uniform(5.4, 5.8)
    walls = shell.four_walls(width, depth)
    turn, mirror = 2 * kit.integer(0, 1), kit.chance(0.5)
    order = [0, 3, 2, 1] if mirror else [0, 1, 2, 3]
    windows, books, sofa, entrance = (walls[(i + turn) % 4] for i in order)
    room = _Furnisher(kit)
    room.patches.append(shell.floor_surface(kit.child(), width, depth))
    lamps, spots = shell.ceiling(kit.child(), width, depth, CEILING_M)
    room.patches += lamps
    room.lights += spots
    _windows(room, windows)
    styles = kit.rng.permutation([0, 1, 2, 2])
    for wall, style in zip(walls, styles, strict=True):
        child = kit.child()
        surface = shell.wall_surface(wall, CEILING_M, shell.wall_material(child, int(style)))
        room.patches += wall.attach(surface + shell.edging(child, wall, CEILING_M))
    room.row(windows, [seating.desk, shell.radiator, lambda k: storage.potted_plant(k, 0.9),
                       storage.cartons, storage.waste_bin], 0.15)
    room.row(books, [storage.bookshelf, storage.bookshelf, storage.sideboard], CORNER_M)
    sofa_x = room.row(sofa, [seating.sofa, seating.floor_lamp, storage.wardrobe,
                             lambda k: storage.potted_plant(k, 1.3), seating.armchair,
                             storage.cartons], 0.15)[0]
    room.row(entrance, [shell.door, storage.television, storage.cartons], CORNER_M)
    _middle(room, sofa, sofa_x, (width, depth))
    only_once: set[int] = set()
    for wall in walls:
        _hang(room, wall, only_once)
    _cables(room, walls)
    c, s = np.cos(windows.yaw), np.sin(windows.yaw)
    travel = np.array([kit.uniform(-0.6, 0.6), -1.0, -kit.uniform(0.6, 0.85)])
    sun = Sun(np.array([c * travel[0] - s * travel[1], s * travel[0] + c * travel[1],
                        travel[2]]), 2.6 * np.array([1.0, 0.9, 0.72]))
    return Place(room.patches, room.lights, sun, (width, depth, CEILING_M), room.obstacles)


def _windows(room: _Furnisher, wall: shell.Wall) -> None:
    kit, half = room.kit, wall.length_m / 2
    for middle in (-0.5 * half + kit.uniform(-0.15, 0.15), 0.5 * half + kit.uniform(-0.15, 0.15)):
        w = kit.uniform(0.7, 0.9)
        wall.openings.append((middle - w, middle + w))
        wall.taken.append((middle - w - 0.35, middle + w + 0.35, CEILING_M))
        patches, lights = shell.window(kit.child(), middle - w, middle + w, 3.0)
        placed = Item(wall.attach(patches), 0, 0, 0)
        placed.lights = Item([], 0, 0, 0, lights).placed(wall.center, wall.yaw).lights
        room.add(placed)
    room.patches += wall.attach([shell.outdoors(kit.child())])


def _middle(room: _Furnisher, sofa: shell.Wall, sofa_x: float,
            size: tuple[float, float]) -> None:
    """Dining table in the half without the sofa, coffee table before the sofa, rugs below."""
    kit, (width, depth) = room.kit, size
    c, s = np.cos(sofa.yaw), np.sin(sofa.yaw)

    def in_room(x: float, away_m: float) -> tuple[float, float]:
        return sofa.center[0] + c * x + s * away_m, sofa.center[1] + s * x - c * away_m

    low = in_room(sofa_x, 1.4)
    # Nobody drives between the sofa and its table.
    room.block(np.array([[sofa_x + x, y] for x, y in (
        (-0.4, 0.0), (0.4, 0.0), (0.4, -1.4), (-0.4, -1.4))]), sofa.center[:2], sofa.yaw)
    room.free_standing(seating.coffee_table(kit.child()), low, kit.uniform(0, 3))
    room.patches += moved([decor.rug(kit.child(), 1.9, 1.3)], (*low, 0), yaw=sofa.yaw)
    side = -1.0 if sofa_x > 0 else 1.0
    x = float(np.clip(sofa_x + side * kit.uniform(2.3, 2.7), -width / 2 + 2.1, width / 2 - 2.1))
    table = in_room(x, 0.5 * depth + kit.uniform(0.0, 0.25))
    room.free_standing(seating.table_group(kit.child()), table,
                       sofa.yaw + kit.uniform(-0.12, 0.12))
    room.patches += moved([decor.rug(kit.child(), 2.3, 1.9)], (*table, 0), yaw=sofa.yaw)
    room.add(seating.pendant(kit.child(), CEILING_M, kit.uniform(0.75, 0.95)).placed(
        (*table, 0.0), 0.0))


def _hang(room: _Furnisher, wall: shell.Wall, only_once: set[int]) -> None:
    """Hang pictures, a clock, a shelf and a notice board wherever the wall is free."""
    kit = room.kit
    x, half = -wall.length_m / 2 + 0.15, wall.length_m / 2
    things = 0
    while x < half - 0.5:
        kind = kit.integer(0, 6)
        if kind in only_once:
            kind = 3
        w = [0.36, kit.uniform(0.9, 1.2), kit.uniform(0.7, 1.0)][kind] if kind < 3 else \
            kit.uniform(0.4, 0.95)
        h = [0.36, kit.uniform(0.6, 0.75), 0.45][kind] if kind < 3 else kit.uniform(0.45, 0.85)
        left, right = x, x + w
        tops = [top for a, b, top in wall.taken if a < right + 0.04 and b > left - 0.04]
        low = max([HANGING_LOW_M, *(top + 0.08 for top in tops)])
        if right > half - 0.1 or low + h > HANGING_HIGH_M:
            x += 0.12
            continue
        low = min(max(low, 1.3 + kit.uniform(-0.1, 0.15)), HANGING_HIGH_M - h)
        child, middle = kit.child(), (x + w / 2, 0.0, low + h / 2)
        if kind == 0:
            patches = decor.clock(child, middle[0], middle[2])
        elif kind == 1:
            patches = moved(decor.notice_board(child, w, h), middle)
        elif kind == 2:
            patches = moved(storage.wall_shelf(child, w), (middle[0], 0.0, low + 0.12))
        else:
            patches = moved(decor.picture_frame(
                child, w, h, style=things + kit.integer(0, 1),
                mount=0.05 if kit.chance(0.4) else 0.0), middle)
        room.patches += wall.attach(patches)
        things += 1
        if kind < 3:
            only_once.add(kind)
        x = right + kit.uniform(0.12, 0.3)


def _cables(room: _Furnisher, walls: list[shell.Wall]) -> None:
    """Sockets low on every wall, with a cable along the floor from some."""
    kit = room.kit
    for wall in walls:
        for _ in range(2):
            x = kit.uniform(-0.4, 0.4) * wall.length_m
            white = kit.plain((0.92, 0.91, 0.88))
            plate = box([x - 0.07, -0.012, 0.25], [x + 0.07, 0, 0.33], white, omit=('back',))
            room.patches += wall.attach(shadowless(plate))
            if kit.chance(0.6):
                t = np.linspace(0, 1, 24)
                along = np.stack([x + kit.uniform(-1, 1) * t,
                                  -0.03 - 0.12 * np.abs(np.sin(7 * t)) * t,
                                  0.008 + 0.28 * (1 - t) ** 6], axis=1)
                room.patches += wall.attach([tube(along, 0.007, kit.plain((0.15, 0.15, 0.16)))])
