"""The pictures of a scene: balls, floors, faces and lamps, 64x64 RGB."""

from __future__ import annotations

import numpy as np

from .drawing import INK, Canvas, Colour, coverage, darker
from .scenes import FPS, NUM_FRAMES, SIZE, BallScene, FaceScene, Scene
from .sounds import mouth_openness

FRAME_TIMES = np.arange(NUM_FRAMES) / float(FPS)  # frame i shows the moment of its own timestamp
BALL_RADIUS = 9.0
FLOOR_Y = 52.0  # upper edge of the floor
GRAVITY = 480.0  # pixels / s^2: a flight of 0.74 s rises 33 pixels

PAINTS = {
    "red": (222, 44, 48),
    "blue": (44, 92, 222),
    "green": (46, 166, 72),
    "yellow": (246, 208, 38),
    "orange": (244, 128, 28),
    "purple": (140, 62, 190),
}
HAIR_PAINTS = {"black": (44, 38, 46), "brown": (112, 68, 40), "blond": (236, 198, 96), "ginger": (206, 88, 34)}
SKIN_PAINTS = {"light": (252, 216, 190), "tan": (228, 178, 138), "brown": (172, 116, 80)}
BACKGROUND_PAINTS = {  # upper and lower colour
    "sky": ((206, 222, 240), (228, 236, 244)),
    "sand": ((238, 228, 208), (246, 240, 226)),
    "mint": ((208, 230, 216), (228, 240, 230)),
    "lilac": ((226, 216, 236), (238, 232, 244)),
}
LIPS = (140, 36, 48)
HEAD_Y = 30.5


def backdrop(background: str) -> Canvas:
    """What is behind everything: one shade of the background above, another below."""
    canvas = Canvas.blank(SIZE)
    top, bottom = (np.array(colour, dtype=np.float32) for colour in BACKGROUND_PAINTS[background])
    canvas.pixels[:] = top + (canvas.y / SIZE)[..., None] * (bottom - top)
    return canvas


def draw_floor(canvas: Canvas, material: str) -> None:
    """Planks of wood, brushed metal, dark rubber with pale studs, or pale glass with glints."""
    x, depth = canvas.x, canvas.y - FLOOR_Y + 0 * canvas.x
    floor = coverage(-depth)
    edge = floor * coverage(depth - 1.5)
    if material == "wood":
        canvas.paint(floor, (176, 118, 66))
        joints = np.where(depth < 7, np.abs(x % 32 - 10), np.abs(x % 32 - 26))
        canvas.paint(floor * coverage(np.minimum(np.abs(depth - 7), joints) - 0.6), (118, 72, 38))
        canvas.paint(edge, (204, 148, 92))
    elif material == "metal":
        canvas.paint(floor, (142, 150, 164))
        sheen = 0.5 + 0.5 * np.cos((x + 1.2 * depth) * (2 * np.pi / 16))
        canvas.paint(floor * sheen**3, (206, 214, 226))
        canvas.paint(edge, (92, 98, 112))
    elif material == "rubber":
        canvas.paint(floor, (58, 54, 60))
        canvas.paint(floor * coverage(np.hypot((x + 4) % 8 - 4, depth - 6.5) - 1.7), (116, 110, 118))
        canvas.paint(edge, (88, 82, 90))
    else:
        canvas.paint(floor, (158, 216, 228))
        canvas.paint(floor * coverage(np.abs((x + depth) % 16 - 8) - 1.4), (226, 246, 250))
        canvas.paint(edge, (240, 252, 254))


def ball_heights(scene: BallScene) -> np.ndarray:
    """Height of the ball's lowest point above the floor in each frame, in pixels: float64 [25]."""
    if not scene.bounce_times:
        return np.zeros(NUM_FRAMES)
    bounces = np.array(scene.bounce_times)
    flight = np.searchsorted(bounces, FRAME_TIMES, side="right") - 1
    since, until = FRAME_TIMES - bounces[flight], bounces[flight + 1] - FRAME_TIMES
    return GRAVITY / 2 * since * until


def draw_ball(canvas: Canvas, x: float, height: float, colour: Colour) -> None:
    """A ball whose lowest point is `height` above the floor, and its shadow."""
    near = 1 / (1 + height / 9)  # 1 on the floor, 0 far above it
    ground = canvas.around(x, FLOOR_Y + 2, 11, 5)
    ground.paint((0.18 + 0.37 * near) * ground.ellipse(x, FLOOR_Y + 2.2, 5.5 + 3 * near, 1.9), INK)
    y = FLOOR_Y - BALL_RADIUS - height
    air = canvas.around(x, y, BALL_RADIUS + 2, BALL_RADIUS + 2)
    distance = air.ellipse_distance(x, y, BALL_RADIUS, BALL_RADIUS)
    air.paint_outlined(distance, colour, 1.1)
    lit = air.ellipse(x - 1.6, y - 1.8, BALL_RADIUS - 1.2, BALL_RADIUS - 1.2)
    air.paint(0.55 * coverage(distance + 1.1) * (1 - lit), darker(colour, 0.7))
    air.paint(0.85 * air.ellipse(x - 3.2, y - 3.8, 2.3, 1.8), (255, 255, 255))


def _hair_behind(canvas: Canvas, scene: FaceScene, x: float, y: float) -> None:
    hair = HAIR_PAINTS[scene.hair]
    if scene.person == "woman":
        crown, locks = canvas.ellipse_distance(x, y - 2, 18.5, 18.5), canvas.box_distance(x, y + 9, 18, 14, 7)
        canvas.paint_outlined(np.minimum(crown, locks), hair)
    elif scene.person == "child":
        for side in (-1, 1):
            canvas.paint_outlined(canvas.ellipse_distance(x + side * 17.5, y - 9, 5, 6), hair)


def _hair_before(canvas: Canvas, scene: FaceScene, x: float, y: float) -> None:
    across = canvas.x - x
    if scene.person == "man":
        fringe = y - 9.5 - 0.14 * across
    elif scene.person == "woman":
        fringe = y - 14.5 + 0.045 * (across + 4) ** 2
    else:
        fringe = y - 10 - 0.02 * across**2 + 1.2 * np.cos(across * 0.9)
    cap = canvas.ellipse_distance(x, y, 15.6, 18.6)
    canvas.paint_outlined(np.maximum(cap, canvas.y - fringe), HAIR_PAINTS[scene.hair])


def draw_face(canvas: Canvas, scene: FaceScene) -> None:
    """Everything but the eyes and the mouth, which move."""
    x, y = scene.x, HEAD_Y + scene.y
    skin, shirt = SKIN_PAINTS[scene.skin], PAINTS[scene.shirt]
    _hair_behind(canvas, scene, x, y)
    canvas.paint_outlined(canvas.box_distance(x, y + 19, 5.5, 8, 2), skin)
    canvas.paint_outlined(canvas.ellipse_distance(x, y + 38, 27, 18), shirt)
    canvas.paint(canvas.ellipse(x, y + 19.5, 6.2, 4.2), darker(skin, 0.8))
    canvas.paint(canvas.ellipse(x, y + 18.4, 5.4, 4.0), skin)
    for side in (-1, 1):
        canvas.paint_outlined(canvas.ellipse_distance(x + side * 14.6, y + 2, 2.8, 3.8), skin)
    canvas.paint_outlined(canvas.ellipse_distance(x, y, 14.8, 17.8), skin)
    for side in (-1, 1):
        canvas.paint(0.35 * canvas.ellipse(x + side * 9, y + 6.5, 3.2, 2.2), (244, 110, 110))
        canvas.paint(canvas.curve(x + side * 6.2, y - 6.4, 3, 0.06, 1.3), darker(HAIR_PAINTS[scene.hair], 0.8))
    canvas.paint(0.6 * canvas.ellipse(x, y + 4.6, 1.7, 1.2), darker(skin, 0.6))
    _hair_before(canvas, scene, x, y)


def _eyes(canvas: Canvas, scene: FaceScene, closed: bool) -> None:
    y = HEAD_Y + scene.y
    for side in (-1, 1):
        x = scene.x + side * 6.2
        eye = canvas.around(x, y, 5, 5)
        if closed:
            eye.paint(eye.curve(x, y + 1.4, 3.2, -0.1, 1.3), INK)
            continue
        eye.paint(eye.ellipse(x, y, 3.5, 3.8), INK)
        eye.paint(eye.ellipse(x, y + 0.3, 3.0, 3.3), (255, 255, 255))
        eye.paint(eye.ellipse(x, y + 0.5, 2.2, 2.5), (38, 30, 44))
        eye.paint(eye.ellipse(x - 0.8, y - 0.6, 0.9, 0.9), (255, 255, 255))


def _mouth(canvas: Canvas, scene: FaceScene, openness: float) -> None:
    """A smile when closed; open, an ellipse whose area grows in proportion to `openness`."""
    x, y = scene.x, HEAD_Y + 10.0 + scene.y
    mouth = canvas.around(x, y, 8, 8)
    mouth.paint(mouth.curve(x, y + 0.9, 4.2, -0.07, 1.7), LIPS)
    if openness > 0:
        rx, ry = 4.6 + 0.4 * openness, 0.3 + 4.9 * openness
        share = min(1.0, openness / 0.08)
        mouth.paint(share * mouth.ellipse(x, y, rx + 0.7, ry + 0.6), LIPS)
        hole = share * mouth.ellipse(x, y, rx - 0.2, ry - 0.2)
        mouth.paint(hole, (74, 14, 24))
        mouth.paint(hole * mouth.ellipse(x, y + ry, rx * 0.7, ry * 0.6), (226, 92, 98))


def lamp_brightness(scene: FaceScene) -> np.ndarray:
    """Light of the lamp in each frame, 0..1: a tick lights the frames within one frame of it, then dies away."""
    light = np.zeros(NUM_FRAMES)
    for tick in scene.tick_times:
        frames = (FRAME_TIMES - tick) * float(FPS)
        light = np.maximum(light, np.where(frames < 0, 1 + frames, np.exp(-np.maximum(frames, 0) / 1.2)))
    return np.clip(1.5 * light, 0, 1)


def _lamp(canvas: Canvas, scene: FaceScene, light: float) -> None:
    x, y = scene.lamp_x, 8.5
    corner = canvas.around(x, y, 9.5, 9.5)
    corner.paint(0.6 * light * corner.ellipse(x, y, 8.8, 8.8), (255, 244, 150))
    off, lit = np.array((96, 92, 104)), np.array((255, 226, 60))
    corner.paint_outlined(corner.ellipse_distance(x, y, 6.2, 6.2), tuple(off + light * (lit - off)), 1.2)
    corner.paint(0.8 * corner.ellipse(x - 2, y - 2.2, 1.5, 1.3), (255, 255, 255))


def face_frames(base: Canvas, scene: FaceScene) -> list[np.ndarray]:
    """Every frame of a face that is drawn on `base` already: eyes, mouth and lamp."""
    frames = []
    light = lamp_brightness(scene)
    for i, openness in enumerate(mouth_openness(scene)):
        frame = base.copy()
        _eyes(frame, scene, any(0 <= FRAME_TIMES[i] - t < 0.16 for t in scene.blink_times))
        _mouth(frame, scene, float(openness))
        if scene.tick_times:
            _lamp(frame, scene, float(light[i]))
        frames.append(frame.pixels)
    return frames


def scene_video(scene: Scene) -> np.ndarray:
    """uint8 [25, 64, 64, 3]."""
    base = backdrop(scene.background)
    frames = []
    if isinstance(scene, BallScene):
        draw_floor(base, scene.material)
        for height in ball_heights(scene):
            frame = base.copy()
            draw_ball(frame, scene.x, height, PAINTS[scene.colour])
            frames.append(frame.pixels)
    else:
        draw_face(base, scene)
        frames = face_frames(base, scene)
    return as_pixels(frames)


def as_pixels(frames: list[np.ndarray]) -> np.ndarray:
    """Painted frames as uint8 [F, 64, 64, 3]."""
    return np.round(np.clip(frames, 0, 255)).astype(np.uint8)
