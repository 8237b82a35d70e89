"""Picture files to arrays, whatever their depth, transparency, colour profile and turn. Pillow alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from .clips import MediaError
from .colour import over_background
from .containers import one_line, require_file

# Not here: formats that run a program (EPS) or that Pillow guesses.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "ICO")


def read_image(path: str | Path) -> np.ndarray:
    """A picture as uint8 RGB [H,W,3], as `read_picture` makes it."""
    return read_picture(path)[0]


def read_picture(path: str | Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """A picture as uint8 RGB [H,W,3], rotated as its EXIF says, and what was converted, in words.

    More than 8 bits become 8; floats are 0..1, or scaled so that the largest is white; transparent parts are shown on
    white; a colour profile other than sRGB is applied.

    Raises:
        MediaError: a missing or unreadable file, or one of a format that is not opened.
    """
    path = Path(path)
    require_file(path)
    Image.init()
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            pages = getattr(image, "n_frames", 1)
            notes = [f"the first of {pages} pictures"] if pages > 1 and image.format != "MPO" else []
            pixels, said = _rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise MediaError(f"{path} is not a picture that can be read ({one_line(error)}); use PNG or JPEG.") from error
    return pixels, tuple(f"{path.name}: {note}" for note in (*notes, *said))


def _rgb(image: Image.Image) -> tuple[np.ndarray, list[str]]:
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_numbers(np.array(image), image.mode)
    notes = []
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.array(_in_srgb(image.convert("RGBA"), notes))
        if rgba[..., 3].min() < 255:
            notes.append("transparent parts are shown on white")
        return over_background(rgba), notes
    kept = image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")
    return np.array(_in_srgb(kept, notes).convert("RGB")), notes


def _in_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """The picture with its embedded profile applied; a profile that cannot be used is left out, and that is said."""
    data = image.info.get("icc_profile")
    if not data:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip()
        if "srgb" in name.lower():
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, mode)
        fitted = transform.apply(image)
    except (ImageCms.PyCMSError, OSError):
        notes.append("its colour profile cannot be applied, read as sRGB")
        return image
    notes.append(f"colours of its profile ({name[:60]}) -> sRGB")
    return fitted


def _from_numbers(values_HW: np.ndarray, mode: str) -> tuple[np.ndarray, list[str]]:
    """Grey of 16 or 32 bits or of floats."""
    values_HW = np.nan_to_num(values_HW.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(values_HW.max())
    if mode == "F":
        white, kind = max(1.0, peak), "float"
    else:
        white, kind = (65535.0, "16-bit") if peak <= 65535 else (float(2**32 - 1), "32-bit")
    scaled = f", {white:g} is white" if mode == "F" and white > 1 else ""
    grey_HW = (values_HW / white * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return np.repeat(grey_HW[..., None], 3, axis=-1), [f"{kind} grey -> 8 bits{scaled}"]
