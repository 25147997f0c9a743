import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile

from jaxgan.data import readers
from jaxgan.errors import UserError


def numbers(*shape, dtype=np.uint16):
    """Returns different numbers, so that no two pixels or axes can be confused."""
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def write_pages(path, pages):
    """Writes a multi-page TIFF that says nothing of its axes."""
    with tifffile.TiffWriter(path) as tif:
        for page in pages:
            tif.write(page, metadata=None, contiguous=False)


def png_of_depth(rows, depth):
    """Returns a grey PNG of 1, 2 or 4 bits, put together by hand."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data))
            + name
            + data
            + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = rows.shape
    bits = (rows[..., None] >> np.arange(depth)[::-1]) & 1
    packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    lines = b"".join(b"\0" + line.tobytes() for line in packed)
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32"])
def test_tiff_keeps_values_and_dtype(tmp_path, dtype, byteorder):
    image = numbers(5, 7, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder)
    planes = readers.read(tmp_path / "a.tif").planes
    np.testing.assert_array_equal(planes, image[None, ..., None])
    assert planes.dtype == np.dtype(dtype) and planes.dtype.isnative


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_become_float32(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", numbers(5, 7, dtype=dtype) / 8)
    planes = readers.read(tmp_path / "a.tif").planes
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes.ravel(), np.arange(35) / 8)


@pytest.mark.parametrize("dtype", ["int64", "complex64"])
def test_dtypes_that_do_not_fit_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", numbers(5, 7, dtype=dtype))
    with pytest.raises(UserError, match=f"a.tif.*{dtype}.*float32"):
        readers.read(tmp_path / "a.tif")


def test_booleans_span_uint8_in_tiff_and_png(tmp_path):
    mask = numbers(5, 8) % 3 == 0
    tifffile.imwrite(tmp_path / "a.tif", mask)
    (tmp_path / "a.png").write_bytes(png_of_depth(mask.astype(np.uint8), 1))
    for name in ("a.tif", "a.png"):
        planes = readers.read(tmp_path / name).planes
        assert planes.dtype == np.uint8
        np.testing.assert_array_equal(planes[0, ..., 0], mask * np.uint8(255))


@pytest.mark.parametrize("depth", [2, 4])
def test_png_of_few_bits_spans_uint8(tmp_path, depth):
    rows = numbers(4, 8, dtype=np.uint8) % 2**depth
    (tmp_path / "a.png").write_bytes(png_of_depth(rows, depth))
    planes = readers.read(tmp_path / "a.png").planes
    np.testing.assert_array_equal(planes[0, ..., 0], rows * (255 // (2**depth - 1)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_values_dtype_and_channels(tmp_path, dtype, channels):
    image = numbers(5, 7, channels, dtype=dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image.squeeze()))
    planes = readers.read(tmp_path / "a.png").planes
    np.testing.assert_array_equal(planes, image[None])
    assert planes.dtype == np.dtype(dtype)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_only_opaque_alpha_is_dropped(tmp_path, channels, suffix):
    path = tmp_path / f"a{suffix}"
    colours = numbers(5, 7, channels, dtype=np.uint8)
    image = np.concatenate([colours, np.full((5, 7, 1), 255, np.uint8)], axis=-1)

    def write():
        if suffix == ".png":
            path.write_bytes(imagecodecs.png_encode(image))
        else:
            tifffile.imwrite(
                path,
                image,
                photometric="rgb" if channels == 3 else "minisblack",
                planarconfig="contig",
                extrasamples=["unassalpha"],
            )

    write()
    read = readers.read(path)
    np.testing.assert_array_equal(read.planes, colours[None])
    assert read.meta.shape == ((5, 7, 3) if channels == 3 else (5, 7))
    image[2, 3, -1] = 0
    write()
    with pytest.raises(UserError, match="transparent"):
        readers.read(path)


def test_a_fourth_sample_that_is_no_alpha_is_a_channel(tmp_path):
    image = numbers(5, 7, 4, dtype=np.uint8)
    options = {"photometric": "rgb", "extrasamples": ["unspecified"]}
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    np.testing.assert_array_equal(readers.read(tmp_path / "a.tif").planes[0], image)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize(
    ("format", "axes"),
    [
        ("imagej", "TYX"),
        ("imagej", "ZCYX"),
        ("imagej", "TZCYX"),
        ("ome", "TCYX"),
        ("ome", "CTYX"),
        ("ome", "ZTCYX"),
        ("tiff", "CZYX"),
        ("tiff", "YXC"),
    ],
)
def test_axes_of_the_file_order_planes_and_channels(
    tmp_path, format, axes, compression
):
    lengths = {"T": 2, "Z": 3, "C": 4, "Y": 5, "X": 7}
    stack = numbers(*[lengths[axis] for axis in axes])
    options = {} if format == "tiff" else {format: True}
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack,
        photometric="minisblack",
        metadata={"axes": axes},
        compression=compression,
        **options,
    )
    read = readers.read(tmp_path / "a.tif")
    assert (read.meta.axes, read.meta.format) == (axes, format)
    assert read.meta.shape == stack.shape
    # The same by name: T outermost, C last.
    absent = "".join(axis for axis in "TZYXC" if axis not in axes)
    order = [(axes + absent).index(axis) for axis in "TZYXC"]
    wanted = stack.reshape(*stack.shape, *[1] * len(absent)).transpose(order)
    wanted = wanted.reshape(-1, *wanted.shape[2:])
    np.testing.assert_array_equal(read.planes, wanted)
    for i, plane in enumerate(wanted):
        single = readers.read(tmp_path / "a.tif", plane=i)
        np.testing.assert_array_equal(single.planes, plane[None])
        assert single.meta == read.meta


def test_pages_without_meaning_are_a_series_unless_axes_say_more(tmp_path):
    stack = numbers(4, 5, 7)
    write_pages(tmp_path / "a.tif", stack)
    read = readers.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.planes, stack[..., None])
    assert read.meta.axes == "TYX"
    as_channels = readers.read(tmp_path / "a.tif", axes="CYX").planes
    np.testing.assert_array_equal(as_channels, stack.transpose(1, 2, 0)[None])
    assert readers.read(tmp_path / "a.tif", axes="TCYX").meta.shape == (1, 4, 5, 7)


@pytest.mark.parametrize("axes", ["", "YX", "TTYX", "TQYX", "TCZZ"])
def test_axes_that_do_not_name_the_dimensions_are_refused(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", numbers(2, 3, 5, 7), photometric="minisblack")
    with pytest.raises(UserError, match=r"a\.tif.*--axes.*"):
        readers.read(tmp_path / "a.tif", axes=axes)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_of_a_colour_tiff_are_channels(tmp_path, planar):
    image = numbers(5, 7, 3, dtype=np.uint8)
    stored = image if planar == "contig" else image.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    read = readers.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.planes[0], image)
    assert (read.meta.axes, read.meta.shape) == ("YXS", (5, 7, 3))


def test_images_of_several_sizes_in_one_file_are_refused(tmp_path):
    write_pages(tmp_path / "a.tif", [numbers(5, 7), numbers(6, 7)])
    with pytest.raises(UserError, match=r"a\.tif.*\(5, 7\), \(6, 7\)"):
        readers.read(tmp_path / "a.tif")


def test_pixel_size_of_imagej(tmp_path):
    metadata = {"axes": "ZYX", "unit": "micron", "spacing": 0.5}
    tifffile.imwrite(
        tmp_path / "a.tif",
        numbers(3, 5, 7),
        imagej=True,
        resolution=(1 / 0.065, 1 / 0.13),
        metadata=metadata,
    )
    meta = readers.read(tmp_path / "a.tif").meta
    assert meta.pixel_size == pytest.approx((0.13, 0.065), rel=1e-6)
    assert (meta.unit, dict(meta.extra)) == ("micron", {"spacing": 0.5})


def test_pixel_size_of_ome(tmp_path):
    metadata = {
        "axes": "ZYX",
        "PhysicalSizeX": 4.6,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 9.2,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 45.0,
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", numbers(3, 5, 7), metadata=metadata)
    meta = readers.read(tmp_path / "a.ome.tif").meta
    assert (meta.pixel_size, meta.unit) == ((9.2, 4.6), "nm")
    assert meta.extra["PhysicalSizeZ"] == "45.0"


def test_pixel_size_of_a_plain_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbers(5, 7))
    assert readers.read(tmp_path / "a.tif").meta.pixel_size is None
    resolution = {"resolution": (1 / 0.0046, 1 / 0.0092), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "b.tif", numbers(5, 7), **resolution)
    meta = readers.read(tmp_path / "b.tif").meta
    assert meta.pixel_size == pytest.approx((0.0092, 0.0046), rel=1e-6)
    assert meta.unit == "cm"


def _truncatable(kind, path):
    stack = numbers(3, 5, 7)
    if kind == "plain":
        tifffile.imwrite(path, stack[0])
    elif kind == "pages":
        write_pages(path, stack)
    elif kind == "jpeg":
        noise = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
        tifffile.imwrite(path, noise, compression="jpeg")
    elif kind == "png":
        path.write_bytes(imagecodecs.png_encode(stack[0]))
    else:
        options = {} if kind == "lzw" else {kind: True}
        compression = "lzw" if kind == "lzw" else None
        tifffile.imwrite(
            path,
            stack,
            photometric="minisblack",
            compression=compression,
            metadata={"axes": "TYX"},
            **options,
        )


@pytest.mark.parametrize(
    "kind", ["plain", "pages", "imagej", "ome", "lzw", "jpeg", "png"]
)
def test_a_truncated_file_is_never_read_as_something_else(tmp_path, kind):
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    _truncatable(kind, path)
    whole = path.read_bytes()
    image = readers.read(path)
    refused = 0
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            read = readers.read(path)
        except UserError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # what was cut off may be padding
            assert read.meta == image.meta
            np.testing.assert_array_equal(read.planes, image.planes)
    assert refused > 0.9 * len(range(0, len(whole), 7))


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_what_is_no_image_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name}.*0 bytes"):
        readers.read(path)
    path.write_bytes(b"not an image, whatever its name says")
    with pytest.raises(UserError, match=name):
        readers.read(path)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}.*No such file"):
        readers.read(path)
