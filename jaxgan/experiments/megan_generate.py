"""Make large images of edges: python -m jaxgan.experiments.megan_generate --workdir=W

    ... --input=EDGES --output=DIR                   of a folder of edge images
    ... --input=IMAGES --find_edges --output=DIR     of the edges of images
    ... --input=IMAGES --edges_only --output=DIR     writes the edges themselves

Edges may be of another domain than the training images. Writes one tiled TIFF per file.
Memory holds the lowest scale, and of the others some rows: they live in files.
"""

import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxgan import cli
from jaxgan.config import from_dict, option
from jaxgan.data import edges, normalise, scan, stitch
from jaxgan.data.folders import Side
from jaxgan.errors import UserError
from jaxgan.experiments.megan_chain import Chain
from jaxgan.methods import megan
from jaxgan.predict import parse_checkpoint
from jaxgan.training import reader
from jaxgan.training.workdir import Workdir, read_config


@dataclasses.dataclass(frozen=True)
class Options:
    """What to make of what."""

    workdir: str = option("", "of the training run")
    input: str = option("", "folder of edge images, grey: black none, white strongest")
    output: str = option("", "folder for the results, a TIFF for each image")
    find_edges: bool = option(False, "the input holds images, whose edges are to count")
    edges_only: bool = option(False, "write the images' edges; no workdir")
    edge_sigma: float = option(2**0.5, "with --edges_only: blur before, in pixels")
    checkpoint: str = option("latest", "best, latest or a step")


def main(*, options: Options) -> None:
    """Makes an image, or edges, of every image of the input folder."""
    needed = ["input", "output"] + ([] if options.edges_only else ["workdir"])
    missing = [name for name in needed if not getattr(options, name)]
    if missing:
        raise UserError([f"--{name} is missing (--help)" for name in missing])
    make = _write_edges if options.edges_only else _generator(options)
    images = scan.open_images(Side("--input", options.input))
    for index, name in enumerate(images.names):
        path = Path(options.output) / f"{name}.tif"
        began = time.monotonic()
        height, width = make(images.load(index), path, options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        megabytes = peak / (2**20 if sys.platform == "darwin" else 2**10)
        print(
            f"{path} {height}x{width} in {time.monotonic() - began:.1f} s; peak memory"
            f" so far {megabytes:.0f} MB"
        )


def _write_edges(image: np.ndarray, path: Path, options: Options) -> tuple[int, int]:
    found = edges.find_edges(image, sigma=options.edge_sigma)
    stitch.write_tiled(path, iter([found]), shape=found.shape, dtype=found.dtype)
    return found.shape[:2]


def _generator(options: Options):
    stored = read_config(options.workdir)
    if stored["method"] != "megan":
        raise UserError(f"--workdir={options.workdir} is of {stored['method']}")
    config = from_dict(megan.Config, stored["config"])
    known = Workdir(options.workdir).read_json("normalization.json")
    range_ = normalise.from_json(known["target"])
    tree, _ = reader.read(
        Workdir(options.workdir).checkpoints,
        step=parse_checkpoint(options.checkpoint),
        only=("gen.params",),
    )
    params = tree["gen"]["params"]
    chain = Chain(config, out_channels=len(range_.low))

    def make(image: np.ndarray, path: Path, options: Options) -> tuple[int, int]:
        found = _edges_of(image, options, config)
        height, width = (n - n % chain.multiple for n in found.shape[:2])
        if 0 in (height, width):
            raise UserError(
                f"{path.stem} is {found.shape[0]}x{found.shape[1]}; a side must be"
                f" {chain.multiple} pixels or more"
            )
        write(chain, params, found[:height, :width], path, range_)
        return height, width

    return make


def _edges_of(image: np.ndarray, options: Options, config: megan.Config) -> np.ndarray:
    if options.find_edges:
        return edges.find_edges(image, sigma=config.edge_sigma)
    if image.dtype != np.uint8:
        raise UserError(
            f"--input={options.input}: edge images are uint8, not {image.dtype}; for"
            " other images give --find_edges"
        )
    return image[..., :1]


def write(
    chain: Chain,
    params: dict,
    found: np.ndarray,
    path: Path,
    range_: normalise.Range,
) -> None:
    """Makes an image of its edges, uint8 `[H, W, 1]`, and writes it as a tiled TIFF.

    Of the scales in between, all but some rows lie in files that are gone afterwards.
    """
    count = len(params)
    below = chain.low(params, chain.edges(found, 0))
    shape = (*found.shape[:2], below.shape[-1])
    with tempfile.TemporaryDirectory() as folder:
        rows = iter([below])
        for scale in range(1, count):
            lines = chain.edges(found, scale)
            rows = chain.high(params, scale, lines, below)
            if scale < count - 1:
                below = _on_disk(
                    rows, (*lines.shape[:2], shape[-1]), Path(folder) / f"{scale}.npy"
                )
        stored = (
            normalise.store(normalise.to_units(part, range_), range_.dtype)[0]
            for part in rows
        )
        stitch.write_tiled(path, stored, shape=shape, dtype=range_.dtype)


def _on_disk(rows, shape: tuple[int, int, int], path: Path) -> np.ndarray:
    image = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    top = 0
    for part in rows:
        image[top : top + len(part)] = part
        top += len(part)
    return image


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
