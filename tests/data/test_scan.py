import re

import imagecodecs
import numpy as np
import pytest
import tifffile

from jaxgan.data import scan
from jaxgan.data.folders import Budget, Side
from jaxgan.data.scan import Report
from jaxgan.errors import UserError


def random(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(image))
    else:
        tifffile.imwrite(path, image, **options)


def sides(tmp_path, **options):
    return [
        Side("--source", str(tmp_path / "a"), **options),
        Side("--target", str(tmp_path / "b"), **options),
    ]


def open_all(sides, *, skip_bad_files=False, budget=None, crop_size=1):
    """Returns the sets and the problems of the files that were left out."""
    report = Report(skip_bad_files=skip_bad_files)
    opened = scan.open_sides(
        sides, report=report, budget=Budget(budget), crop_size=crop_size
    )
    return opened, report.close()


def problems_of(sides, **options):
    with pytest.raises(UserError) as caught:
        open_all(sides, **options)
    return caught.value.problems


def test_files_pair_by_stem_below_their_folders(tmp_path):
    for seed, stem in enumerate(["07", "day1/07", "day2/deep/x.y"]):
        write(tmp_path / "a" / f"{stem}.ome.tif", random(6, 8, seed=seed))
        write(tmp_path / "b" / f"{stem}.png", random(6, 8, 3))
    write(tmp_path / "a" / ".hidden.tif", random(6, 8))
    write(tmp_path / "a" / ".cache" / "07.tif", random(6, 8))
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (source, target), skipped = open_all(sides(tmp_path))
    assert source.names == target.names == ("07", "day1/07", "day2/deep/x.y")
    assert (source.channels, target.channels) == (1, 3)
    np.testing.assert_array_equal(source.load(1)[..., 0], random(6, 8, seed=1))
    assert skipped == ()


def test_every_problem_is_listed_once_by_file(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for stem in ("good1", "good2", "good3"):
        write(a / f"{stem}.tif", random(8, 8))
        write(b / f"{stem}.tif", random(8, 8))
    bad = ["alone_a", "alone_b", "cut", "dtype", "empty", "flat", "nan", "rgb"]
    bad += ["size", "small", "zz_planes"]
    for stem in bad[2:]:
        write(a / f"{stem}.tif", random(8, 8))
        write(b / f"{stem}.tif", random(8, 8))
    write(a / "alone_a.tif", random(8, 8))
    write(b / "alone_b.tif", random(8, 8))
    whole = (a / "cut.tif").read_bytes()
    (a / "cut.tif").write_bytes(whole[:-9])
    write(a / "dtype.tif", random(8, 8, dtype=np.uint16))
    (b / "empty.tif").write_bytes(b"")
    write(b / "flat.tif", np.full((8, 8), 7, np.uint8))
    holes = random(8, 8, dtype=np.float32)
    holes[2, 3] = np.nan
    write(a / "nan.tif", holes)
    write(a / "rgb.tif", random(8, 8, 3), photometric="rgb")
    write(b / "size.tif", random(8, 9))
    write(a / "small.tif", random(8, 5))
    write(b / "small.tif", random(8, 5))
    write(b / "zz_planes.tif", random(2, 8, 8), photometric="minisblack")
    problems = problems_of(sides(tmp_path), crop_size=6)
    words = {
        "alone_a": f"no partner.*{b}",
        "alone_b": f"no partner.*{a}",
        "cut": "cannot be read",
        "dtype": "uint16.*uint8",
        "empty": "0 bytes",
        "flat": "constant .7 everywhere.*--skip_bad_files",
        "nan": "NaN or infinite, the first at row 2, column 3",
        "rgb": "3 channel.*1 channel",
        "size": "8x8.*8x9.*--resize",
        "small": "8x5.*--crop_size=6",
        "zz_planes": "1 planes.*2 planes",
    }
    assert len(problems) == len(words)
    for stem, pattern in words.items():
        (found,) = [p for p in problems if f"{stem}.tif" in p]
        assert re.search(pattern, found), found
    opened, skipped = open_all(sides(tmp_path), crop_size=6, skip_bad_files=True)
    assert opened[0].names == opened[1].names == ("good1", "good2", "good3")
    assert sorted(skipped) == sorted(problems)


def test_what_ails_the_whole_cannot_be_skipped(tmp_path):
    write(tmp_path / "a" / "1.tif", random(8, 8))
    (problem,) = problems_of(sides(tmp_path))
    assert "--target" in problem and str(tmp_path / "b") in problem
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.jpg").write_bytes(b"x")
    (problem,) = problems_of(sides(tmp_path))
    assert "no TIFF or PNG" in problem and ".jpg" in problem
    write(tmp_path / "b" / "2.tif", random(8, 8))
    (problem,) = problems_of(sides(tmp_path))
    assert "no file has a partner" in problem
    write(tmp_path / "b" / "1.tif", random(8, 8))
    write(tmp_path / "b" / "1.png", random(8, 8))
    (problem,) = problems_of(sides(tmp_path))
    assert "1.png" in problem and "1.tif" in problem and "one name" in problem
    (tmp_path / "b" / "1.png").unlink()
    (tmp_path / "b" / "2.tif").unlink()
    (tmp_path / "b" / "1.tif").write_bytes(b"")
    problems = problems_of(sides(tmp_path), skip_bad_files=True)
    assert any("no image is left" in p for p in problems)
    assert any("0 bytes" in p for p in problems)


def test_faults_of_a_missing_folders_partner_are_listed_too(tmp_path):
    write(tmp_path / "a" / "1.tif", np.zeros((8, 8), np.uint8))
    problems = problems_of(sides(tmp_path))
    assert len(problems) == 2


def test_single_files_pair_whatever_their_names(tmp_path):
    write(tmp_path / "x.tif", random(3, 8, 8), photometric="minisblack")
    write(tmp_path / "y.tif", random(3, 8, 8, seed=1), photometric="minisblack")
    named = [
        Side("--source", f"{tmp_path}/x.tif"),
        Side("--target", f"{tmp_path}/y.tif"),
    ]
    (source, target), _ = open_all(named)
    assert source.names == ("x[0]", "x[1]", "x[2]")
    assert source.files == ("x", "x", "x")
    np.testing.assert_array_equal(target.load(2)[..., 0], random(3, 8, 8, seed=1)[2])


def test_a_blank_plane_is_left_out_of_a_stack(tmp_path):
    stack = random(3, 8, 8)
    stack[1] = 0
    write(tmp_path / "a" / "s.tif", stack, photometric="minisblack")
    write(tmp_path / "b" / "s.tif", random(3, 8, 8), photometric="minisblack")
    (problem,) = problems_of(sides(tmp_path))
    assert "s.tif, plane 1: the image is constant" in problem
    (source, target), _ = open_all(sides(tmp_path), skip_bad_files=True)
    assert source.names == target.names == ("s[0]", "s[2]")
    np.testing.assert_array_equal(source.load(1)[..., 0], stack[2])


def test_axes_make_channels_of_pages(tmp_path):
    stack = random(3, 8, 8)
    write(tmp_path / "a" / "s.tif", stack, photometric="minisblack")
    side = Side("--source", str(tmp_path / "a"), axes="CYX")
    ((images,), _) = open_all([side])
    assert images.channels == 3
    np.testing.assert_array_equal(images.load(0), stack.transpose(1, 2, 0))


def test_folders_by_commas_stack_as_channels(tmp_path):
    images = {}
    for folder, channels in (("a", 1), ("b", 3), ("c", 1)):
        for stem in ("1", "2"):
            image = random(8, 8, channels, seed=len(images))
            images[folder, stem] = image
            write(tmp_path / folder / f"{stem}.png", image.squeeze())
    spec = ", ".join(str(tmp_path / folder) for folder in "abc")
    ((stacked,), _) = open_all([Side("--source", spec)])
    wanted = np.concatenate([images[folder, "2"] for folder in "abc"], axis=-1)
    np.testing.assert_array_equal(stacked.load(1), wanted)
    assert stacked.channels == 5


def test_stacked_folders_must_be_of_one_dtype(tmp_path):
    write(tmp_path / "a" / "1.tif", random(8, 8))
    write(tmp_path / "b" / "1.tif", random(8, 8, dtype=np.uint16))
    spec = f"{tmp_path}/a,{tmp_path}/b"
    (problem,) = problems_of([Side("--source", spec)])
    assert "uint8" in problem and "uint16" in problem and "--source" in problem


def masks(tmp_path):
    """Writes two folders of masks: grey-edged bytes, and booleans with an empty one."""
    grey = np.zeros((2, 4, 4), np.uint8)
    grey[0, 0] = [255, 128, 127, 0]
    boolean = np.zeros((2, 4, 4), bool)
    boolean[0, :2] = True
    for i in range(2):
        write(tmp_path / "m" / f"{i}.png", grey[i])
        write(tmp_path / "n" / f"{i}.tif", boolean[i])
    return f"{tmp_path}/m,{tmp_path}/n"


def test_masks_become_classes_by_half_of_their_folders_maximum(tmp_path):
    side = Side("--source", masks(tmp_path), one_hot=True)
    ((images,), _) = open_all([side])
    labels = images.load(0).argmax(-1)
    np.testing.assert_array_equal(labels[0], [0, 0, 1, 1])
    np.testing.assert_array_equal(labels[1], 1)
    np.testing.assert_array_equal(labels[2:], 2)
    np.testing.assert_array_equal(images.load(1).argmax(-1), 2)  # empty masks are fine
    assert (images.channels, images.dtype) == (3, np.uint8)


def test_masks_are_resized_as_classes(tmp_path):
    side = Side("--source", masks(tmp_path), one_hot=True, resize=(2, 2))
    ((images,), _) = open_all([side], crop_size=2)
    # The right half of the first row: one pixel of four is not of class 1.
    np.testing.assert_array_equal(images.load(0).argmax(-1), [[0, 1], [2, 2]])
    assert images.shapes == ((2, 2), (2, 2))


def test_masks_have_one_channel_and_one_size(tmp_path):
    spec = masks(tmp_path)
    write(tmp_path / "m" / "1.png", random(4, 5))
    side = Side("--source", spec, one_hot=True, resize=(2, 2))
    (problem,) = problems_of([side])
    assert "4x5" in problem and "4x4" in problem
    for i in range(2):
        write(tmp_path / "m" / f"{i}.png", random(4, 4, 3))
    (problem,) = problems_of([side])
    assert "--one_hot" in problem and "3 channels" in problem


def test_resize_takes_the_area_mean_and_evens_out_sizes(tmp_path):
    image = random(8, 8)
    write(tmp_path / "a" / "1.tif", image)
    write(tmp_path / "b" / "1.tif", random(16, 16))
    (source, target), _ = open_all(sides(tmp_path, resize=(4, 4)))
    wanted = np.rint(image.reshape(4, 2, 4, 2).mean((1, 3)))
    np.testing.assert_array_equal(source.load(0)[..., 0], wanted)
    assert source.shapes == target.shapes == ((4, 4),)


def test_halves_of_aligned_images(tmp_path):
    image = random(8, 12)
    write(tmp_path / "a" / "1.png", image)
    path = str(tmp_path / "a")
    halves = [Side("--aligned", path, half=half) for half in ("left", "right")]
    (source, target), _ = open_all(halves)
    np.testing.assert_array_equal(source.load(0)[..., 0], image[:, :6])
    np.testing.assert_array_equal(target.load(0)[..., 0], image[:, 6:])
    write(tmp_path / "a" / "2.png", random(8, 11))
    write(tmp_path / "a" / "3.png", random(8, 12))
    (tmp_path / "a" / "3.png").write_bytes(b"")
    problems = problems_of(halves)
    assert len(problems) == 2  # not once for each half
    assert "11 pixels wide" in problems[0] and "--aligned" in problems[0]


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_images_beyond_the_budget_are_read_again_and_the_same(tmp_path, compression):
    for seed, stem in enumerate(("1", "2")):
        stack = random(2, 3, 8, 8, dtype=np.uint16, seed=seed)
        options = {"photometric": "minisblack", "metadata": {"axes": "TCYX"}}
        for folder in "ab":
            write(
                tmp_path / folder / f"{stem}.tif",
                stack,
                compression=compression,
                **options,
            )
    spec = f"{tmp_path}/a,{tmp_path}/b"
    side = Side("--source", spec, resize=(4, 4))
    ((kept,), _) = open_all([side])
    ((partly,), _) = open_all([side], budget=400)  # a file is 2 planes of 96 bytes
    ((unkept,), _) = open_all([side], budget=0)
    assert kept.load(0) is kept.load(0)
    assert unkept.load(0) is not unkept.load(0)
    for i in range(4):
        np.testing.assert_array_equal(unkept.load(i), kept.load(i))
        np.testing.assert_array_equal(partly.load(i), kept.load(i))


def test_a_budget_is_shared_and_never_exceeded():
    budget = Budget(10)
    assert [budget.take(n) for n in (6, 6, 4, 1)] == [True, False, True, False]


def test_a_default_budget_exists():
    assert Budget().take(2**20)


def test_images_for_a_model_have_the_channels_it_was_trained_on(tmp_path):
    write(tmp_path / "a" / "1.tif", random(8, 8, 3), photometric="rgb")
    side = Side("--input", str(tmp_path / "a"))
    assert scan.open_images(side, channels=3).meta(0).axes == "YXS"
    with pytest.raises(UserError, match="--input.*3 channel.*trained on 1"):
        scan.open_images(side, channels=1)


def test_a_model_may_be_applied_to_constant_images(tmp_path):
    write(tmp_path / "a" / "1.tif", np.zeros((8, 8), np.uint8))
    assert len(scan.open_images(Side("--input", str(tmp_path / "a")))) == 1


def test_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.tif").symlink_to(tmp_path / "nowhere.tif")
    (problem,) = problems_of([Side("--source", str(tmp_path / "a"))])
    assert "1.tif" in problem and "No such file" in problem
