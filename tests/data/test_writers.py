import os

import numpy as np
import pytest
import tifffile

from jaxgan.data import readers, writers
from jaxgan.data.readers import Meta


def random(*shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def round_trip(tmp_path, planes, like):
    writers.write_tiff(tmp_path / "out.tif", planes, like=like)
    assert os.listdir(tmp_path) == ["out.tif"]
    return readers.read(tmp_path / "out.tif")


@pytest.mark.parametrize("format", ["imagej", "ome", "tiff"])
@pytest.mark.parametrize("axes", ["YX", "TYX", "CYX", "ZCYX", "TCYX", "TZCYX"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_output_says_of_itself_what_the_input_said(tmp_path, format, axes, dtype):
    lengths = {"T": 2, "Z": 3, "C": 4, "Y": 5, "X": 7}
    shape = tuple(lengths[axis] for axis in axes)
    unit = {"imagej": "micron", "ome": "nm", "tiff": "cm"}[format]
    like = Meta(axes, shape, format, (0.5, 0.25), unit)
    planes = random(
        like.length("T") * like.length("Z"), 5, 7, like.length("C"), dtype=dtype
    )
    read = round_trip(tmp_path, planes, like)
    np.testing.assert_array_equal(read.planes, planes)
    assert read.planes.dtype == planes.dtype
    assert (read.meta.axes, read.meta.shape) == (axes, shape)
    assert (read.meta.format, read.meta.unit) == (format, unit)
    assert read.meta.pixel_size == pytest.approx((0.5, 0.25), rel=1e-6)


@pytest.mark.parametrize("axes", ["CTYX", "ZTCYX"])
def test_ome_keeps_its_own_order_of_axes(tmp_path, axes):
    lengths = {"T": 2, "Z": 3, "C": 4, "Y": 5, "X": 7}
    like = Meta(axes, tuple(lengths[axis] for axis in axes), "ome")
    planes = random(2 * like.length("Z"), 5, 7, 4)
    read = round_trip(tmp_path, planes, like)
    assert read.meta.axes == axes
    np.testing.assert_array_equal(read.planes, planes)


@pytest.mark.parametrize("format", ["imagej", "tiff", "png"])
def test_colour_stays_colour(tmp_path, format):
    planes = random(1, 5, 7, 3, dtype=np.uint8)
    read = round_trip(tmp_path, planes, Meta("YXS", (5, 7, 3), format))
    np.testing.assert_array_equal(read.planes, planes)
    assert read.meta.axes == "YXS"
    assert read.meta.format == ("tiff" if format == "png" else format)


@pytest.mark.parametrize(
    ("axes", "shape", "channels", "wanted"),
    [
        ("YXS", (5, 7, 3), 1, "YX"),
        ("YXS", (5, 7, 3), 2, "CYX"),
        ("YX", (5, 7), 3, "CYX"),
        ("TCYX", (3, 2, 5, 7), 1, "TYX"),
        ("TYX", (3, 5, 7), 2, "TCYX"),
    ],
)
def test_other_channels_get_or_lose_an_axis(tmp_path, axes, shape, channels, wanted):
    like = Meta(axes, shape, "ome")
    planes = random(like.length("T"), 5, 7, channels)
    read = round_trip(tmp_path, planes, like)
    np.testing.assert_array_equal(read.planes, planes)
    assert read.meta.axes == wanted


def test_another_size_scales_the_pixels(tmp_path):
    like = Meta("YX", (10, 7), "ome", (0.5, 0.25), "nm")
    read = round_trip(tmp_path, random(1, 20, 28, 1), like)
    assert read.meta.pixel_size == pytest.approx((0.25, 0.0625))


def test_spacing_of_slices_is_passed_on(tmp_path):
    like = Meta("ZYX", (3, 5, 7), "imagej", extra={"spacing": 0.75, "finterval": 2.0})
    assert round_trip(tmp_path, random(3, 5, 7, 1), like).meta.extra == like.extra
    like = Meta("ZYX", (3, 5, 7), "ome", extra={"PhysicalSizeZ": "45.0"})
    assert round_trip(tmp_path, random(3, 5, 7, 1), like).meta.extra == like.extra


def test_what_imagej_cannot_hold_becomes_ome(tmp_path, monkeypatch):
    like = Meta("TYX", (2, 5, 7), "imagej", (0.5, 0.25), "micron")
    read = round_trip(tmp_path, random(2, 5, 7, 1, dtype=np.int32), like)
    assert (read.meta.format, read.meta.unit) == ("ome", "µm")
    assert read.planes.dtype == np.int32
    monkeypatch.setattr(writers, "_CLASSIC_BYTES", 100)
    read = round_trip(tmp_path, random(2, 5, 7, 1, dtype=np.uint16), like)
    assert (read.meta.format, read.meta.axes) == ("ome", "TYX")
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert tif.is_bigtiff


def test_software_is_jaxgan(tmp_path):
    for format in ("imagej", "ome", "tiff"):
        path = tmp_path / f"{format}.tif"
        writers.write_tiff(path, random(1, 5, 7, 1), like=Meta("YX", (5, 7), format))
        with tifffile.TiffFile(path) as tif:
            assert tif.pages[0].tags["Software"].value == "jaxgan"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    like = Meta("YX", (5, 7))
    path = tmp_path / "a.tif"
    writers.write_tiff(path, random(1, 5, 7, 1), like=like)
    before = path.read_bytes()

    def fail(file, *args, **kwargs):
        file.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(tifffile, "imwrite", fail)
        writers.write_tiff(path, random(1, 5, 7, 1), like=like)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.tif"]


def test_a_file_gets_its_name_only_when_it_is_whole(tmp_path, monkeypatch):
    seen = []

    def replace(partial, path):
        seen.append((readers.read(partial).planes.shape, path.exists()))
        rename(partial, path)

    rename = os.replace
    monkeypatch.setattr(os, "replace", replace)
    round_trip(tmp_path, random(1, 5, 7, 1), Meta("YX", (5, 7)))
    assert seen == [((1, 5, 7, 1), False)]


def test_folders_on_the_way_are_made(tmp_path):
    path = tmp_path / "day1" / "deep" / "07.tif"
    writers.write_tiff(path, random(1, 5, 7, 1), like=Meta("YX", (5, 7)))
    assert readers.read(path).planes.shape == (1, 5, 7, 1)


def test_the_number_of_planes_must_fit(tmp_path):
    with pytest.raises(ValueError, match="3 planes cannot be 2 times"):
        writers.write_tiff(
            tmp_path / "a.tif", random(3, 5, 7, 1), like=Meta("TYX", (2, 5, 7))
        )
