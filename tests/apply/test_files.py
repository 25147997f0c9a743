import numpy as np
import pytest
import tifffile

from jaxgan import cli, predict
from jaxgan.apply import files
from jaxgan.data import readers, writers
from jaxgan.data.folders import Side
from jaxgan.errors import UserError

DTYPES = ("uint8", "uint16", "float32")
STACKS = {"YX": (30, 20), "TYX": (3, 30, 20), "ZCYX": (2, 3, 30, 20)}


def write(path, kind, axes, values):
    """Writes a TIFF of a kind, of pixels of 0.2 by 0.1 micrometres."""
    options = {"resolution": (1 / 0.1, 1 / 0.2), "metadata": {"axes": axes}}
    if kind == "ome":
        size = {"PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm"}
        size |= {"PhysicalSizeY": 0.2, "PhysicalSizeYUnit": "µm"}
        options = {"ome": True, "metadata": {"axes": axes, **size}}
    elif kind == "imagej":
        options |= {"imagej": True}
        options["metadata"] = {"axes": axes, "unit": "um"}
    else:
        options["resolutionunit"] = "CENTIMETER"
    tifffile.imwrite(path, values, photometric="minisblack", **options)


@pytest.mark.parametrize("axes", STACKS)
@pytest.mark.parametrize("kind", ["tiff", "imagej", "ome"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path, dtype, kind, axes):
    """What tifffile reads of a file it reads of its copy, written whole or by rows."""
    values = np.random.default_rng(0).integers(0, 200, STACKS[axes]).astype(dtype)
    write(tmp_path / "a.tif", kind, axes, values)
    image = readers.read(tmp_path / "a.tif")
    writers.write_tiff(tmp_path / "whole.tif", image.planes, like=image.meta)
    shape, stored = image.planes.shape, image.planes.dtype
    with writers.open_rows(
        tmp_path / "rows.tif", shape, stored, like=image.meta
    ) as output:
        for n, plane in enumerate(image.planes):
            for y in (16, 0):
                output.put(n, y, plane[y : y + 16])
    facts = [describe(tmp_path / f"{name}.tif") for name in ("a", "whole", "rows")]
    assert facts[0] == facts[1] == facts[2]
    for name in ("whole", "rows"):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{name}.tif"), values)


def describe(path):
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        meta = readers.read(path).meta
        size = tuple(round(x, 6) for x in meta.pixel_size)
        return series.axes, series.shape, series.dtype, size, meta.unit, meta.format


@pytest.fixture
def inputs(tmp_path):
    for name in ("a", "b", "deep/c", "deep/d"):
        path = tmp_path / "in" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.arange(400, dtype=np.uint16).reshape(20, 20))
    return tmp_path / "in"


def run(*flags):
    predict.main(**cli.parse(["predict", *flags], {"options": predict.Options}))


def test_shards_share_the_files_and_leave_the_finished(tmp_path, inputs, finished):
    flags = f"--workdir={finished}", f"--input={inputs}", f"--output={tmp_path / 'out'}"
    run(*flags, "--shard=1/2")
    names = [p.relative_to(tmp_path / "out").as_posix() for p in written(tmp_path)]
    assert names == ["b.tif", "deep/d.tif"]
    before = {p: p.stat().st_mtime_ns for p in written(tmp_path)}
    (tmp_path / "out" / "b.tif").unlink()
    run(*flags, "--shard=1/2")
    run(*flags, "--shard=0/2")
    assert len(written(tmp_path)) == 4
    kept = tmp_path / "out" / "deep" / "d.tif"
    assert kept.stat().st_mtime_ns == before[kept]


def written(tmp_path):
    return sorted((tmp_path / "out").rglob("*.tif"))


def test_shards_share_the_planes_of_a_stack(tmp_path, finished):
    values = np.random.default_rng(0).integers(0, 4000, (5, 20, 20)).astype("u2")
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "TYX"})
    flags = f"--workdir={finished}", f"--input={tmp_path / 'a.tif'}"
    run(*flags, f"--output={tmp_path / 'whole'}")
    for i in range(2):
        run(*flags, f"--output={tmp_path / 'out'}", f"--shard={i}/2")
    assert [p.name for p in written(tmp_path)] == ["a_0000-0001.tif", "a_0002-0004.tif"]
    parts = [tifffile.imread(p) for p in written(tmp_path)]
    whole = tifffile.imread(tmp_path / "whole" / "a.tif")
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("text", ["2/2", "a/2", "1", "-1/2"])
def test_bad_shard(text):
    with pytest.raises(UserError, match="--shard"):
        files.parse_shard(text)


@pytest.mark.parametrize("shard", ["", "0/2"])
@pytest.mark.parametrize("resize", [None, (20, 20)])
@pytest.mark.parametrize("several", [False, True])
def test_inputs_are_not_overwritten(inputs, tmp_path, shard, resize, several):
    """However they are opened, and by a shard, which leaves what is there."""
    spec = f"{inputs},{tmp_path / 'in'}" if several else str(inputs)
    side = Side("--input", spec, resize=resize)
    with pytest.raises(UserError, match=r"a\.tif is an input"):
        files.find(side, str(inputs), shard=shard, channels=1)


def test_links_do_not_lead_results_astray(tmp_path, inputs, finished):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="link to another place"):
        run(
            f"--workdir={finished}",
            f"--input={inputs}",
            f"--output={tmp_path / 'out'}",
        )
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["$(touch x);'\"", "-rf *", "ü\n..", "a..b"])
def test_names_are_names(tmp_path, finished, name):
    path = tmp_path / "in" / f"{name}.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, np.arange(400, dtype=np.uint16).reshape(20, 20))
    run(f"--workdir={finished}", f"--input={path.parent}", f"--output={tmp_path}/out")
    assert [p.name for p in written(tmp_path)] == [f"{name}.tif"]


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("dtype", ["uint16", ">u2", "float32"])
def test_large_files_are_translated_where_they_lie(
    tmp_path, finished, monkeypatch, dtype, compression
):
    values = np.random.default_rng(0).integers(0, 4000, (2, 70, 90)).astype(dtype)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in" / "a.tif",
        values,
        byteorder=">" if dtype[0] == ">" else None,
        compression=compression,
        metadata={"axes": "TYX"},
    )
    flags = f"--workdir={finished}", f"--input={tmp_path / 'in'}", "--tile=64"
    run(*flags, f"--output={tmp_path / 'scanned'}")
    monkeypatch.setattr(readers, "LARGE", 1)
    run(*flags, f"--output={tmp_path / 'out'}")
    results = [tifffile.imread(tmp_path / d / "a.tif") for d in ("scanned", "out")]
    np.testing.assert_array_equal(*results)
    assert results[0].shape == values.shape and results[0].std() > 0


def test_large_files_are_checked(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(readers, "LARGE", 1)
    values = np.ones((70, 70), np.float32)
    values[40, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(UserError, match=r"a\.tif: NaN"):
        run(f"--workdir={finished}", f"--input={tmp_path}", f"--output={tmp_path}/o")
    assert not list(tmp_path.rglob("o/*"))
