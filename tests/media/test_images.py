"""Reading picture files of every depth, transparency and profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from harmony_core.media import MediaError, read_image, read_picture


def test_image_is_turned_as_exif_says(tmp_path: Path) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:10, :10] = 255
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(picture, -1))


RAMP = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(4, 0)


@pytest.mark.parametrize(
    ("name", "values", "note"),
    [
        ("a.png", (RAMP * 65535).round().astype(np.uint16), "a.png: 16-bit grey -> 8 bits"),
        ("a.tif", RAMP, "a.tif: float grey -> 8 bits"),
        ("a.tif", RAMP * 8, "a.tif: float grey -> 8 bits, 8 is white"),
        ("a.tif", (RAMP * 65535).round().astype(np.int32), "a.tif: 16-bit grey -> 8 bits"),
    ],
)
def test_deep_grey_keeps_its_ramp(tmp_path: Path, name: str, values: np.ndarray, note: str) -> None:
    Image.fromarray(values).save(tmp_path / name)
    pixels, notes = read_picture(tmp_path / name)
    np.testing.assert_allclose(pixels[0, :, 0], np.arange(256), atol=1)
    assert (pixels == pixels[..., :1]).all()
    assert notes == (note,)


def test_values_that_are_no_numbers_are_black(tmp_path: Path) -> None:
    values = np.full((2, 4), 0.5, np.float32)
    values[0, :2] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[..., 0].tolist() == [[0, 0, 128, 128], [128] * 4]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("hidden", [0, 200])
def test_what_is_transparent_shows_white_whatever_is_hidden(tmp_path: Path, mode: str, hidden: int) -> None:
    picture = np.full((8, 8, 4), (hidden, hidden, hidden, 0), np.uint8)
    picture[:4, :4] = 90, 90, 90, 255
    if mode != "P":
        picture[4:, :4] = 100, 100, 100, 128
    Image.fromarray(picture).convert(mode).save(tmp_path / "a.png")
    pixels, notes = read_picture(tmp_path / "a.png")
    assert (pixels[:4, :4] == 90).all()
    assert (pixels[:, 4:] == 255).all()
    if mode != "P":
        assert (pixels[4:, :4] == 177).all()  # 100 * 128 / 255 + 255 * 127 / 255
    assert notes == ("a.png: transparent parts are shown on white",)


def test_an_opaque_alpha_channel_says_nothing(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (10, 20, 30, 255)).save(tmp_path / "a.png")
    pixels, notes = read_picture(tmp_path / "a.png")
    assert (pixels == (10, 20, 30)).all()
    assert notes == ()


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    """Lab is the one profile without sRGB's primaries that Pillow makes; grey of L 50 is 119 in sRGB."""
    lab = Image.new("LAB", (4, 4), (128, 128, 128))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    lab.save(tmp_path / "a.tif", icc_profile=profile)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "b.png", icc_profile=b"nonsense")
    Image.new("RGB", (4, 4), (9, 9, 9)).save(
        tmp_path / "c.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), 119, atol=2)
    pixels, notes = read_picture(tmp_path / "b.png")
    assert (pixels == 9).all()
    assert notes == ("b.png: its colour profile cannot be applied, read as sRGB",)
    pixels, notes = read_picture(tmp_path / "c.png")
    assert (pixels == 9).all()
    assert notes == ()


def test_the_first_of_several_pictures_is_read_and_that_is_said(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    pixels, notes = read_picture(tmp_path / "a.gif")
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert notes == ("a.gif: the first of 2 pictures",)


def test_a_renamed_postscript_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n0 0 8 8 rectfill showpage\n%%EOF\n"
    (tmp_path / "a.jpg").write_text(script)
    gs = tmp_path / "gs"
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MediaError, match=r"a\.jpg is not a picture that can be read \(cannot identify"):
        read_image(tmp_path / "a.jpg")
    assert not (tmp_path / "started").exists()


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    """Every place of a small PNG cut or turned over: read, or one sentence."""
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    refused = 0
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]):
            (tmp_path / "a.png").write_bytes(damaged)
            try:
                shape = read_image(tmp_path / "a.png").shape
            except MediaError:  # anything else fails the test
                refused += 1
            else:
                assert shape[-1] == 3
    assert refused > len(whole)
