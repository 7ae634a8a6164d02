"""How the images of `PocketImages` are drawn: a mask of what is shown, one colour, one background."""

import math

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
"""Width and height of an image in pixels."""

COLOURS = {
    "red": (215, 30, 35),
    "yellow": (240, 210, 30),
    "green": (35, 155, 60),
    "blue": (35, 75, 215),
    "purple": (125, 40, 175),
    "pink": (245, 135, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = {"small": (6.0, 7.0), "large": (9.5, 10.5)}  # radius in pixels
COUNTS = ("one", "two", "three")
POSITIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "centre": (0, 0)}
BACKGROUNDS = ("white", "black", "brown", "striped", "dotted")

_FINE = 4  # masks are drawn this many times larger and then averaged
_NEAREST = 24  # a group that stands aside has its centre at most so many pixels from that side
_JITTER = 2.5


def _outline(shape: str) -> list[tuple[float, float]]:
    """Return corners within the unit circle in polar form: angle in radians, distance from the centre."""
    if shape == "cross":
        narrow, wide = math.atan2(0.33, 0.94), math.hypot(0.33, 0.94)
        corners = [(-narrow, wide), (narrow, wide), (math.pi / 4, math.hypot(0.33, 0.33))]
        return [(angle + turn * math.pi / 2, far) for turn in range(4) for angle, far in corners]
    n_points = {"triangle": 3, "square": 4, "star": 5}[shape]
    points = [(2 * math.pi * i / n_points, 1.0) for i in range(n_points)]
    if shape == "star":
        points += [(angle + math.pi / n_points, 0.42) for angle, _ in points]
    return sorted(points)


def _centres(count: str, position: str, radius: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Place the objects of a group apart from each other and within the image."""
    n_objects = COUNTS.index(count) + 1
    # Neighbours are 2.1 to 2.2 radii apart, on a circle around the centre of the group.
    distance = 0.0 if n_objects == 1 else radius * rng.uniform(2.1, 2.2) / 2 / math.sin(math.pi / n_objects)
    room = radius + distance + 1
    middle = []  # x, y
    for side in POSITIONS[position]:
        aside = SIDE / 2 - (rng.uniform(room, max(room, _NEAREST)) if side else 0)
        middle.append(SIDE / 2 + side * aside + (0 if side else rng.uniform(-_JITTER, _JITTER)))
    start = rng.uniform(0, 2 * math.pi)
    angles = [start + 2 * math.pi * i / n_objects for i in range(n_objects)]
    return [(middle[0] + distance * math.cos(angle), middle[1] + distance * math.sin(angle)) for angle in angles]


def scene_mask(shape: str, count: str, size: str, position: str, rng: np.random.Generator) -> Image.Image:
    """Draw objects of one shape and size in one place: 255 where they are, 0 elsewhere."""
    mask = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    draw = ImageDraw.Draw(mask)
    radius = rng.uniform(*SIZES[size])
    for x, y in _centres(count, position, radius, rng):
        if shape in ("circle", "ring"):
            box = [_FINE * value for value in (x - radius, y - radius, x + radius, y + radius)]
            draw.ellipse(box, fill=255)
            if shape == "ring":
                hole = 0.55 * radius
                draw.ellipse([_FINE * value for value in (x - hole, y - hole, x + hole, y + hole)], fill=0)
        else:
            tilt = rng.uniform(-0.25, 0.25) - (math.pi / 4 if shape == "square" else math.pi / 2)
            corners = [(angle + tilt, far * radius) for angle, far in _outline(shape)]
            draw.polygon([(_FINE * (x + r * math.cos(a)), _FINE * (y + r * math.sin(a))) for a, r in corners], fill=255)
    return mask.reduce(_FINE)


def digit_mask(scan: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Enlarge a scan [8, 8] of a digit, whose values are from 0 to 16, and turn and move it a little."""
    edge = int(rng.integers(46, 57))
    strokes = np.clip(scan * (1.4 * 255 / 16), 0, 255).astype(np.uint8)
    enlarged = Image.fromarray(strokes).resize((edge, edge), Image.Resampling.BICUBIC)
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(enlarged, tuple(rng.integers(0, SIDE - edge + 1, 2).tolist()))
    return mask.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR)


def background(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw a background with nothing on it."""
    shade = rng.uniform(-12, 12)
    plain = {"white": (238, 238, 238), "black": (18, 18, 18), "brown": (120, 80, 45)}
    if name in plain:
        return Image.new("RGB", (SIDE, SIDE), tuple(round(value + shade) for value in plain[name]))
    y, x = np.mgrid[:SIDE, :SIDE]
    angle = rng.uniform(0, math.pi)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    if name == "striped":
        wave = np.sin(2 * math.pi * (along / rng.uniform(7, 11) + rng.uniform())) > 0
    else:
        pitch = rng.uniform(6, 8)
        wave = np.cos(2 * math.pi * along / pitch) + np.cos(2 * math.pi * across / pitch) > 0.8
    grey = np.where(wave, 95 + shade, 185 + shade).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def paint(colour: str, mask: Image.Image, behind: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Paint a shade of the colour on the background where the mask is."""
    shade = tuple(int(value) for value in np.clip(np.array(COLOURS[colour]) + rng.uniform(-14, 14, 3), 0, 255))
    return Image.composite(Image.new("RGB", (SIDE, SIDE), shade), behind, mask)
