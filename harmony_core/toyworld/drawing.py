"""A canvas with anti-aliased shapes. A shape is a signed distance in pixels, negative inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, ...]
INK: Colour = (45, 36, 48)


def darker(colour: Colour, share: float = 0.55) -> Colour:
    """The colour, mixed with ink: outlines and shade."""
    return tuple(share * c + (1 - share) * ink for c, ink in zip(colour, INK, strict=True))


def coverage(distance: np.ndarray) -> np.ndarray:
    """How much of each pixel lies inside, 0..1."""
    return np.clip(0.5 - distance, 0, 1)


@dataclass(frozen=True)
class Canvas:
    """`pixels` float32 [H, W, 3] in 0..255, painted in place; `x` [1, W] and `y` [H, 1] are the pixels' centres."""

    pixels: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def blank(cls, size: int) -> Canvas:
        """A black square. A pixel's centre is at its index + 0.5."""
        centres = np.arange(size, dtype=np.float32) + 0.5
        return cls(np.zeros((size, size, 3), dtype=np.float32), centres[None], centres[:, None])

    def copy(self) -> Canvas:
        """The same picture on its own pixels."""
        return Canvas(self.pixels.copy(), self.x, self.y)

    def around(self, x: float, y: float, half_width: float, half_height: float) -> Canvas:
        """The part of this canvas around (x, y), sharing its pixels: small shapes cost less to draw there."""
        rows = slice(max(int(y - half_height), 0), max(int(y + half_height) + 1, 0))
        columns = slice(max(int(x - half_width), 0), max(int(x + half_width) + 1, 0))
        return Canvas(self.pixels[rows, columns], self.x[:, columns], self.y[rows])

    def columns(self, left: int, right: int) -> Canvas:
        """The part of this canvas from column `left` to before `right`, sharing its pixels."""
        return Canvas(self.pixels[:, left:right], self.x[:, left:right], self.y)

    def ellipse_distance(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
        """Distance to an ellipse, exact for circles, first order near the edge otherwise."""
        u, v = (self.x - x) / rx, (self.y - y) / ry
        radius = np.sqrt(u * u + v * v)
        slope = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
        return radius * (radius - 1) / np.maximum(slope, 1e-6)

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
        """Coverage of an ellipse with centre (x, y)."""
        return coverage(self.ellipse_distance(x, y, rx, ry))

    def box_distance(self, x: float, y: float, half_width: float, half_height: float, corner: float) -> np.ndarray:
        """Distance to a box with centre (x, y) and rounded corners."""
        dx, dy = np.abs(self.x - x) - half_width + corner, np.abs(self.y - y) - half_height + corner
        outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
        return outside + np.minimum(np.maximum(dx, dy), 0) - corner

    def curve(self, x: float, y: float, half_width: float, bend: float, thickness: float) -> np.ndarray:
        """Coverage of a short parabola through (x, y), bent downwards at its ends where `bend` is positive."""
        distance = np.abs(self.y - (y + bend * (self.x - x) ** 2)) - thickness / 2
        return coverage(np.maximum(distance, np.abs(self.x - x) - half_width))

    def paint(self, mask: np.ndarray, colour: Colour) -> None:
        """Lay `colour` (0..255) over the pixels where `mask` (0..1) says."""
        pixels = self.pixels
        pixels += mask[..., None] * (np.array(colour, dtype=np.float32) - pixels)

    def paint_outlined(self, distance: np.ndarray, colour: Colour, width: float = 1.0) -> None:
        """A filled shape with a dark outline of `width` pixels inside its edge."""
        self.paint(coverage(distance), darker(colour))
        self.paint(coverage(distance + width), colour)
