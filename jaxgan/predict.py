"""Apply a trained generator to images of any size: python -m jaxgan.predict.

    python -m jaxgan.predict --workdir=W --input=DIR|FILE --output=DIR
    python -m jaxgan.predict --workdir=A --workdir=B ...   B on what A returned
    python -m jaxgan.predict --workdir=W --num_samples=N --output=DIR   from noise

Writes one TIFF per input file, with its name, shape, axes and pixel size and with the
dtype and range of the images the last workdir was trained towards. Images larger than
`--tile` are translated in tiles of one size, by statistics of the whole image, so that
the result is that of the whole; files too large for memory are read and written by
rows. `--shard=i/n` leaves a job of several its part of the files. From Python,
`model = load(workdir)` and `model(image)` do the same for arrays.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import augment, cli, sampling
from jaxgan.apply import files, receptive
from jaxgan.apply.tiled import Seams, Sink, Tiled, out_of_memory
from jaxgan.config import from_dict, option
from jaxgan.data import normalise, scan
from jaxgan.data import options as data_options
from jaxgan.data.imagesets import ImageSet
from jaxgan.errors import UserError
from jaxgan.methods import cyclegan, pix2pix, srgan, supervised
from jaxgan.training import reader, workdir

METHODS = {
    "pix2pix": pix2pix,
    "cyclegan": cyclegan,
    "srgan": srgan,
    "supervised": supervised,
}


def make_translate(
    generate: Callable[[Any, jax.Array], jax.Array],
    source_range: normalise.Range,
    *,
    multiple: int,
) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Returns `translate(variables, image)`, for stored images `[H, W, I]` of any size.

    Args:
      generate: `(variables, source [1, h, w, I] in [-1, 1]) -> [1, s h, s w, O]`,
        where s is 1 but for super-resolution.
      source_range: what is stored as -1 and as 1.
      multiple: what `generate` needs h and w to divide by; images are padded to it by
        reflection, and the result `[s H, s W, O]`, in [-1, 1], is cropped back.

    Each new padded size is compiled once.
    """
    low, high = jnp.array(source_range.low), jnp.array(source_range.high)
    compiled = jax.jit(lambda v, x: generate(v, augment.decode(x, low, high)))

    def translate(variables: Any, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        pads = ((0, -height % multiple), (0, -width % multiple), (0, 0))
        # Reflection repeats as often as a small image asks.
        padded = np.pad(image, pads, mode="symmetric")
        made = np.asarray(compiled(variables, padded[None]))[0]
        scale = made.shape[0] // padded.shape[0]
        return made[: scale * height, : scale * width]

    return translate


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained generator that takes and returns images as they are stored."""

    config: dict[str, Any]  # the workdir's config.json
    source_range: normalise.Range
    target_range: normalise.Range
    step: int  # of the checkpoint
    scale: int  # of the result's height and width over the image's
    _translate: Callable[[np.ndarray, Sink], Seams]

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return len(self.source_range.low)

    @property
    def out_channels(self) -> int:
        """Channels of the images it returns."""
        return len(self.target_range.low)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Translates an image `[H, W, I]`, in the units of the training sources.

        Returns float32 `[H, W, O]` in the units of the training targets, larger by the
        scale after super-resolution; an image `[H, W]` counts as one channel. Raises
        `ValueError` for other channel counts.
        """
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or image.shape[-1] != self.in_channels:
            raise ValueError(
                f"expected an image [H, W, {self.in_channels}], got {image.shape}"
            )
        rows: list[np.ndarray] = []

        def keep(y: int, part: np.ndarray) -> None:
            if y == 0:  # again, if memory ran out
                rows.clear()
            rows.append(part)

        self.stream(image, keep)
        return np.concatenate(rows)

    def stream(self, image: np.ndarray, sink: Sink) -> Seams:
        """Translates `[H, W, I]`, which may be on disk, and hands rows to `sink`.

        `sink(y, rows)` gets float32 `[n, W, O]` as `__call__` returns them, from the
        first row y on; from the start again if memory ran out.
        """
        return self._translate(
            image, lambda y, rows: sink(y, normalise.to_units(rows, self.target_range))
        )


def load(
    path: str,
    *,
    checkpoint: int | str = "best",
    statistics: str = "",
    noise_seed: int | None = None,
    tile: int = 1024,
    statistics_tiles: int = 0,
    report: Callable[[str], None] | None = None,
) -> Model:
    """Loads the generator of a workdir.

    Args:
      path: the `--workdir` of a training run.
      checkpoint: "best", "latest" or a step.
      statistics: what batch normalisation uses, "image" or "running", as in
        `pix2pix.generate`; by default what the method's authors use.
      noise_seed: keeps dropout on as the paper does, drawn from this seed; without it
        the same image always gives the same result.
      tile: images of more than tile x tile pixels are translated in tiles of that
        side; the result is that of the whole image, but for a difference that
        `Model.stream` returns where the network sees further than tiles can.
      statistics_tiles: the most tiles, evenly spread, that image-wide statistics of
        normalisation are measured on; 0: all.
      report: is told how far the work on a large image is.

    Raises `UserError` if the workdir or its checkpoints cannot be used.
    """
    trained = read_trained(path, checkpoint=checkpoint)
    key = None if noise_seed is None else jax.random.key(noise_seed)
    options = {"statistics": statistics} if statistics else {}

    def generate(variables: Any, source: jax.Array) -> jax.Array:
        return trained.method.generate(
            trained.gen, variables, source, key=key, **options
        )

    whole = make_translate(generate, trained.source_range, multiple=trained.multiple)

    @functools.cache
    def tiled() -> Tiled:
        return Tiled(
            generate,
            trained.source_range,
            multiple=trained.multiple,
            halo=receptive.halo(getattr(trained.gen, "ab", trained.gen)),
            statistics_tiles=statistics_tiles,
            report=report,
        )

    def translate(image: np.ndarray, sink: Sink) -> Seams:
        if image.shape[0] * image.shape[1] <= tile**2:
            try:
                sink(0, whole(trained.variables, image[:, :]))
                return Seams(exact=True)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
        return tiled()(trained.variables, image, sink, tile=tile)

    return Model(
        trained.stored,
        trained.source_range,
        trained.target_range,
        trained.step,
        getattr(trained.config, "scale", 1),
        translate,
    )


class Trained(NamedTuple):
    """The generator of a workdir that translates images, and what belongs to it."""

    stored: dict[str, Any]  # the workdir's config.json
    source_range: normalise.Range
    target_range: normalise.Range
    method: Any  # the module of jaxgan.methods
    config: Any  # its Config
    gen: Any  # the network
    variables: dict[str, Any]  # what it is applied with
    step: int  # of the checkpoint

    @property
    def multiple(self) -> int:
        """What height and width of an image must divide by."""
        return self.method.size_multiple(self.config)


def read_trained(path: str, *, checkpoint: int | str = "best") -> Trained:
    """Reads the generator of a workdir; `UserError` if it takes noise, or is absent."""
    stored = workdir.read_config(path)
    if stored["method"] in sampling.METHODS:
        raise UserError(
            f"--workdir={path} is of {stored['method']}, which makes images of noise: "
            "give --num_samples, not --input"
        )
    if stored["method"] not in METHODS:
        raise UserError(
            f"--workdir={path} is of {stored['method']}; this takes networks that "
            f"translate images: {', '.join(METHODS)}"
            " (of megan: python -m jaxgan.experiments.megan_generate)"
        )
    ranges = workdir.Workdir(path).read_json("normalization.json")
    # A denoiser keeps one range, of its clean images.
    source, target = (
        normalise.from_json(ranges.get(role) or ranges["image"])
        for role in ("source", "target")
    )
    method = METHODS[stored["method"]]
    config = from_dict(method.Config, stored["config"])
    gen = method.networks(config, out_channels=len(target.low)).gen
    variables, step = read_generator(path, checkpoint)
    return Trained(stored, source, target, method, config, gen, variables, step)


def read_generator(path: str, checkpoint: int | str) -> tuple[dict[str, Any], int]:
    """Returns what a workdir's generator is applied with, and the checkpoint's step."""
    directory = workdir.Workdir(path).checkpoints
    tree, step = reader.read(
        directory, step=checkpoint, only=("gen.params", "gen.stats", "ema")
    )
    params = tree["gen"]["params"] if tree["ema"] is None else tree["ema"]
    return {"params": params, "batch_stats": tree["gen"]["stats"] or {}}, step


@dataclasses.dataclass(frozen=True)
class Options:
    """What to apply to what."""

    workdir: tuple[str, ...] = option(
        (), "of the training run; several: each takes what the one before it returned"
    )
    input: str = option("", "folder or file of images, as --source took them")
    output: str = option("", "folder for the results, a TIFF for each file")
    axes: str = option("", "axes of stacks, such as TYX (default: the file's own)")
    checkpoint: str = option("best", "best, latest or a step")
    statistics: str = option(
        "",
        "what batch normalisation uses: each image's own or training's averages;"
        " empty: as published",
        choices=("", "image", "running"),
    )
    noise: bool = option(False, "keep dropout on, as the paper does at test time")
    num_samples: int = option(0, "images to draw from a generator that takes noise")
    size: int = option(0, "height and width of samples; 0: as in training")
    condition: str = option(
        "", "what a cgan is to draw: a class, parameters by commas; empty: all in turn"
    )
    seed: int = option(0, "of noise and samples")
    output_dtype: str = option(
        "",
        "empty: that of the training targets; float32 keeps all",
        choices=("", "float32"),
    )
    tile: int = option(1024, "side of the tiles of larger images, in pixels")
    statistics_tiles: int = option(
        0, "the most tiles that an image's statistics are measured on; 0: all, exact"
    )
    shard: str = option("", "I/N: translate part I of N of the files, from 0, if new")


def main(*, options: Options) -> None:
    """Translates every image of the input folder, or draws samples."""
    if options.num_samples:
        draw_samples(options)
        return
    missing = [f for f in ("workdir", "input", "output") if not getattr(options, f)]
    if missing:
        raise UserError([f"--{flag} is missing (--help)" for flag in missing])
    if options.tile < 64:
        raise UserError(f"--tile={options.tile}: tiles have at least 64 pixels a side")
    models = [
        load(
            path,
            checkpoint=parse_checkpoint(options.checkpoint),
            statistics=options.statistics,
            noise_seed=options.seed if options.noise else None,
            tile=options.tile,
            statistics_tiles=options.statistics_tiles,
            report=lambda text: print(f"  {text}", flush=True),
        )
        for path in options.workdir
    ]
    check_chain(options.workdir, models)
    data = from_dict(data_options.DataConfig, models[0].config["data"])
    side = data_options.input_side(data, options.input, axes=options.axes)
    found = files.find(
        side, options.output, shard=options.shard, channels=models[0].in_channels
    )
    dtype = np.dtype(options.output_dtype or models[-1].target_range.dtype)
    clipped, began = 0, time.monotonic()
    for number, file in enumerate(found, 1):
        clipped += translate_file(file, models, dtype)
        left = (time.monotonic() - began) / number * (len(found) - number)
        print(f"{file.output}  [{number}/{len(found)}, {left:.0f} s left]", flush=True)
    if clipped:
        print(f"{clipped} values lay outside the range of {dtype} and were clipped")


def translate_file(file: files.File, models: Sequence[Model], dtype: np.dtype) -> int:
    """Writes what the models make of a file; returns how many values were clipped."""
    scale = math.prod(model.scale for model in models)
    counts = [0] * len(file)
    with file.create(scale, models[-1].out_channels, dtype) as output:
        for plane in range(len(file)):

            def put(y: int, rows: np.ndarray, plane: int = plane) -> None:
                stored, count = normalise.store(rows, dtype)
                # Row 0 comes again if memory ran out.
                counts[plane] = count + (counts[plane] if y else 0)
                output.put(plane, y, stored)

            image = file.load(plane)
            # Only the last of a chain works by rows: what lies between is in memory.
            for model in models[:-1]:
                image = model(image[:, :])
            seams = models[-1].stream(image, put)
            if not seams.exact:
                print(
                    f"  the network sees further than tiles of this size: blended;"
                    f" where tiles overlap they differ by {seams.mean_difference:.4f}"
                    f" on average and {seams.max_difference:.4f} at most (range 2);"
                    f" steps across seams are {seams.seam_ratio:.2f} times others"
                )
    return sum(counts)


def draw_samples(options: Options) -> None:
    """Draws images or label maps from noise, and writes them."""
    if len(options.workdir) != 1 or not options.output or options.input:
        raise UserError("--num_samples takes one --workdir, --output and no --input")
    (path,) = options.workdir
    variables, _ = read_generator(path, parse_checkpoint(options.checkpoint))
    sampler = sampling.load(path, variables)
    for written in sampler.write(
        options.output,
        options.num_samples,
        seed=options.seed,
        size=options.size,
        condition=options.condition,
    ):
        print(written)


def open_input(spec: str, model: Model, *, axes: str = "") -> ImageSet:
    """Opens images the way a model's training opened its sources."""
    data = from_dict(data_options.DataConfig, model.config["data"])
    side = data_options.input_side(data, spec, axes=axes)
    return scan.open_images(side, channels=model.in_channels)


def parse_checkpoint(text: str) -> int | str:
    """Reads `--checkpoint`; raises `UserError` for what is not one."""
    if text in ("best", "latest"):
        return text
    if not text.isdigit():
        raise UserError(f"--checkpoint={text}: expected best, latest or a step")
    return int(text)


def check_chain(paths: Sequence[str], models: Sequence[Model]) -> None:
    """Raises `UserError` unless each model takes what the one before it returns."""
    for (a, first), (b, second) in itertools.pairwise(zip(paths, models, strict=True)):
        if first.out_channels != second.in_channels:
            raise UserError(
                f"--workdir={b} takes {second.in_channels} channel(s), but "
                f"--workdir={a} before it returns {first.out_channels}"
            )


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
