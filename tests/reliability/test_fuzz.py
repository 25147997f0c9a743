"""Files that no one wrote on purpose: a clear error or an image, and nothing else.

JAXGAN_CASES=10000 tries more of them than the suite does.
"""

import os
import time
import warnings

import hypothesis
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st

from jaxgan.data import readers, writers
from jaxgan.errors import UserError

CASES = int(os.environ.get("JAXGAN_CASES", "200"))
SETTINGS = hypothesis.settings(
    max_examples=max(CASES // 10, 10),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
SECONDS = 10  # that reading a small file may take on a busy machine


def stack(dtype="uint16"):
    rng = np.random.default_rng(0)
    return rng.integers(0, 200, (3, 20, 24)).astype(dtype)


OPTIONS = {
    "plain": {},
    "imagej": {"imagej": True, "metadata": {"axes": "TYX", "unit": "um"}},
    "ome": {"ome": True, "metadata": {"axes": "TYX"}},
    "lzw": {"compression": "lzw", "metadata": {"axes": "TYX"}},
    "deflate tiles": {"compression": "deflate", "tile": (16, 16)},
    "big": {"bigtiff": True, "byteorder": ">"},
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """The bytes of a sound file of each kind, and its suffix."""
    folder = tmp_path_factory.mktemp("seeds")
    found = [(imagecodecs.png_encode(stack()[0]), ".png")]
    for name, options in OPTIONS.items():
        path = folder / f"{name}.tif"
        resolution = {} if name == "ome" else {"resolution": (5, 5)}
        tifffile.imwrite(
            path, stack(), photometric="minisblack", **resolution, **options
        )
        found.append((path.read_bytes(), ".tif"))
    return found


def mutate(content, rng):
    """Flips, overwrites, cuts out, repeats or truncates, often near the header."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        limit = len(data) if rng.integers(2) else min(len(data), 400)
        at, size = int(rng.integers(limit)), int(rng.integers(1, 9))
        kind = rng.integers(6)
        if kind == 0:
            data[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            data[at : at + size] = rng.bytes(size)
        elif kind == 2:
            data[at : at + size] = bytes([rng.choice([0, 1, 0x7F, 0xFF])]) * size
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = data[at : at + size]
        elif at > 8:
            del data[at:]
        if not data:
            return b"x"
    return bytes(data)


def check(path):
    """Reads a file; returns whether it was read. Everything else is a failure."""
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = readers.read(path)
    except UserError as error:
        assert str(path) in str(error)
        return False
    finally:
        assert time.monotonic() - began < SECONDS
    meta = image.meta
    assert image.planes.ndim == 4 and image.planes.flags.c_contiguous
    planes = meta.length("T") * meta.length("Z")
    channels = meta.length("C") * meta.length("S")
    size = (meta.length("Y"), meta.length("X"))
    assert image.planes.shape == (planes, *size, channels)
    assert image.planes.nbytes < 2**28
    return True


def test_mutated_files(tmp_path, seeds):
    rng = np.random.default_rng(0)
    read = 0
    for case in range(CASES):
        content, suffix = seeds[case % len(seeds)]
        path = tmp_path / f"case{suffix}"
        path.write_bytes(mutate(content, rng))
        try:
            read += check(path)
        except BaseException as error:
            kept = tmp_path / f"failed_{case}{suffix}"
            path.rename(kept)
            raise AssertionError(f"case {case}: {kept}") from error
    assert 0.05 * CASES < read < 0.9 * CASES
    print(f"{CASES} mutated files: {read} read, {CASES - read} refused by name")


@SETTINGS
@hypothesis.given(
    content=st.binary(max_size=300), suffix=st.sampled_from([".tif", ".png"])
)
def test_bytes_of_any_kind(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}"
    heads = {".tif": b"II*\x00\x08\x00\x00\x00", ".png": b"\x89PNG\r\n\x1a\n"}
    for head in (b"", heads[suffix]):
        path.write_bytes(head + content)
        assert not check(path)


@SETTINGS
@hypothesis.given(
    lengths=st.tuples(*[st.integers(1, 4)] * 3, *[st.integers(1, 9)] * 2),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    form=st.sampled_from(["tiff", "imagej", "ome"]),
    scale=st.none() | st.tuples(*[st.floats(0.01, 100)] * 2),
)
def test_what_is_written_is_read(tmp_path_factory, lengths, dtype, form, scale):
    path = tmp_path_factory.getbasetemp() / "written.tif"
    t, z, channels, height, width = lengths
    values = np.arange(np.prod(lengths)).reshape(t * z, height, width, channels)
    planes = (values % 251).astype(dtype)
    meta = readers.Meta(
        "TZCYX", lengths, format=form, pixel_size=scale, unit="cm" if scale else ""
    )
    writers.write_tiff(path, planes, like=meta)
    image = readers.read(path)
    np.testing.assert_array_equal(image.planes, planes)
    assert image.planes.dtype == planes.dtype
    for axis, length in zip("TZCYX", lengths, strict=True):
        assert image.meta.length(axis) == length
    if scale and image.meta.pixel_size:
        np.testing.assert_allclose(image.meta.pixel_size, scale, rtol=1e-3)
