"""Denoise with a GAN as prior: python -m jaxgan.experiments.denoise --gan_workdir=DIR

    --input=FILES --noise=poisson:25 --output=DIR    denoises, a TIFF for each file
    --noise=poisson:25 --noise=gaussian:.1 --output=DIR    compares denoisers

The first searches, for every image, the nearest one that the generator can make, and
then adapts the generator to the image (--adapt_steps=0: as published). --noise says
what noise the images have; with none it is estimated. The second adds noise to clean
images (--clean) or to simulated micrographs and scores search, adaptation, supervised
networks (--supervised_workdir) and classical filters on them.
"""

import dataclasses
import itertools
from pathlib import Path

import jax
import numpy as np

from jaxgan import cli, columns, noise, predict
from jaxgan.config import option
from jaxgan.data import options as data_options
from jaxgan.data import scan, writers
from jaxgan.data.folders import Side
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.simulate import particles
from jaxgan.errors import UserError
from jaxgan.experiments import denoise_table, priors
from jaxgan.experiments.priors import Prior, SearchConfig
from jaxgan.training import console

_FIRST_UNSEEN = 1_000_000  # training takes the first micrographs of the series
_TOO_FAR = 1.5  # times the loss that the truth would have: not in the range


@dataclasses.dataclass(frozen=True)
class Options:
    """What to denoise, with what, and what to write."""

    gan_workdir: tuple[str, ...] = option((), "of a dcgan run; several: a row each")
    supervised_workdir: tuple[str, ...] = option((), "of a supervised run; may repeat")
    checkpoint: str = option("latest", "best, latest or a step, of all workdirs")
    input: str = option("", "noisy images: folder, file or stack; empty: compare")
    clean: str = option("", "clean images to compare on; empty: simulated micrographs")
    axes: str = option("", "axes of stacks, such as TYX (default: the file's own)")
    resize: str = option("", "HEIGHT,WIDTH of whole images after an area mean")
    noise: tuple[str, ...] = option((), "poisson:COUNTS, gaussian:SIGMA, none; repeat")
    simulated_pixel: float = option(0.0, "nm; 0: such that an image shows 2.46 nm")
    clip: bool = option(True, "whether counts above the level of poisson are lost")
    unbias: bool = option(True, "undo the bias of clipped counts, in every row")
    num_images: int = option(6, "simulated micrographs to compare on, or clean images")
    output: str = option("", "folder for results")
    seed: int = option(0, "of noise and restarts")


SECTIONS = {"options": Options, "search": SearchConfig}


def main(*, options: Options, search: SearchConfig) -> denoise_table.Table | None:
    """Denoises the images of --input, or compares denoisers on clean images."""
    models = parse_options(options)
    checkpoint = predict.parse_checkpoint(options.checkpoint)
    opened = [
        priors.load_prior(path, checkpoint=checkpoint) for path in options.gan_workdir
    ]
    if options.input:
        denoise_files(options, search, opened, models[0])
        return None
    networks = {
        Path(path).name: priors.load_network(path, checkpoint=checkpoint)
        for path in options.supervised_workdir
    }
    size = opened[0].size
    truth = open_clean(options, size) if options.clean else simulate(options, size)
    table, pictures = denoise_table.compare(
        truth,
        models,
        priors=opened,
        networks=networks,
        search=search,
        key=jax.random.key(options.seed),
        unbias=options.unbias,
    )
    for name, rows in table.items():
        console.result_table(f"{name}, {len(truth.images)} images", rows)
    denoise_table.write(Path(options.output), table, pictures)
    return table


def parse_options(options: Options) -> list[noise.Noise]:
    """Returns the noise models; raises `UserError` with all that is wrong."""
    problems = [
        f"--{flag} is missing (--help)"
        for flag in ("gan_workdir", "output", "noise")
        if not getattr(options, flag)
    ]
    if options.input and (options.clean or options.supervised_workdir):
        problems.append("--input denoises with generators alone: no other images")
    if options.input and len(options.noise) > 1:
        problems.append("--input has one kind of --noise")
    models = []
    for text in options.noise:
        try:
            models.append(noise.parse(text, clip=options.clip))
        except ValueError as error:
            problems.append(f"--noise: {error}")
    if problems:
        raise UserError(problems)
    return models


def simulate(options: Options, size: int) -> denoise_table.Truth:
    """Returns the middles of micrographs that no training saw."""
    made = particles.micrographs(
        options.num_images,
        start=_FIRST_UNSEEN,
        size=tuple(int(side * size / 512) for side in (876, 927)),
        pixel=options.simulated_pixel or 512 * particles.FINE_PIXEL / size,
    )
    places, images = [], []
    for image, atoms in zip(made.image, made.columns, strict=True):
        corner, middle = _middle(image, size)
        inside = atoms - corner
        keep = np.all((inside >= 1) & (inside <= size - 2), axis=1)
        places.append(inside[keep])
        images.append(middle[..., None])
    return denoise_table.Truth(np.stack(images), places)


def open_clean(options: Options, size: int) -> denoise_table.Truth:
    """Returns the middles of clean images; their columns are those found in them."""
    images = _open("--clean", options.clean, options, size)
    count = min(options.num_images, len(images))
    if count < 2:
        raise UserError("--clean needs two images: filters are chosen on the others")
    middles = [_middle(np.float32(images.load(i)), size)[1] for i in range(count)]
    places = [columns.find(image.mean(axis=-1)) for image in middles]
    return denoise_table.Truth(np.stack(middles), places)


def _open(flag: str, spec: str, options: Options, size: int) -> ImageSet:
    try:
        resize = data_options.parse_size(options.resize)
    except ValueError as error:
        raise UserError(f"--resize: {error}") from error
    images = scan.open_images(Side(flag, spec, axes=options.axes, resize=resize))
    small = [s for s in images.shapes if min(s) < size]
    if small:
        raise UserError(
            f"{flag}={spec} has images of {small[0]}, but the generator makes {size}"
            f" pixels: give larger ones, or a generator of smaller ones"
        )
    return images


def _middle(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corner and the content of an image's middle square."""
    corner = (np.array(image.shape[:2]) - size) // 2
    rows, columns_ = (slice(start, start + size) for start in corner)
    return corner, image[rows, columns_]


def denoise_files(
    options: Options, search: SearchConfig, opened: list[Prior], model: noise.Noise
) -> None:
    """Writes for each generator and file what was found, and how sure it is."""
    for prior in opened:
        images = _open("--input", options.input, options, prior.size)
        if images.channels != prior.channels:
            raise UserError(
                f"--input={options.input} has {images.channels} channels, but "
                f"{prior.name} makes {prior.channels}"
            )
        folder = Path(options.output) / (prior.name if len(opened) > 1 else "")
        planes = range(len(images))
        for file, group in itertools.groupby(planes, key=lambda i: images.files[i]):
            numbers = list(group)
            stack = np.stack([np.float32(images.load(i)) for i in numbers])
            made = denoise_stack(stack, prior, search, model, seed=options.seed)
            for kind, result in made.items():
                path = folder / kind / f"{file}.tif"
                writers.write_tiff(path, result, like=images.meta(numbers[0]))
                print(path)


def denoise_stack(
    stack: np.ndarray,
    prior: Prior,
    search: SearchConfig,
    model: noise.Noise,
    *,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Denoises planes `[P, H, W, C]`, all tiles of all planes in one call.

    Returns "denoised" (adapted, unless `search.adapt_steps` is 0), "latent" (what the
    generator makes) and "uncertainty" (the deviation over the restarts), `[P, H, W,
    C]`. Prints a warning where the generator cannot make such an image.
    """
    corners = _corners(stack.shape[1:3], prior.size)
    tiles = np.concatenate([_cut(stack, corner, prior.size) for corner in corners])
    keys = jax.random.split(jax.random.key(seed), len(tiles))
    loss = search.loss(model)
    found = prior.find(tiles, keys, search, loss=loss)
    levels = denoise_table.noise_levels(found.image, keys, model, loss, tiles)
    warn(found.loss, levels, model)
    made = {"latent": found.image, "uncertainty": found.uncertainty}
    made["denoised"] = found.image
    if search.adapt_steps:
        made["denoised"] = prior.adapt(found, tiles, levels, search, loss=loss).image
    if loss is noise.squared_error:
        for kind in ("latent", "denoised"):
            made[kind] = denoise_table.finish(model)(made[kind])
    return {kind: _join(x, corners, stack.shape) for kind, x in made.items()}


def warn(losses: np.ndarray, levels: np.ndarray, model: noise.Noise) -> None:
    """Prints the noise and a plain warning where the residual is more than noise."""
    what = "estimated" if model.kind == "none" else "expected"
    print(f"loss of the search {losses.mean():.3g}, {what}: {levels.mean():.3g}")
    far = np.flatnonzero(losses > _TOO_FAR * levels)
    if far.size:
        print(
            f"WARNING: {far.size} of {len(losses)} tiles are not in the generator's "
            f"range: what is left of them is {(losses / levels)[far].max():.1f} times "
            "the noise. The latent's image is then another than what was measured; the "
            "adapted one keeps to the data."
        )


def _corners(shape: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """Returns where tiles begin that cover the image, with the least overlap."""
    starts = [
        np.unique(np.linspace(0, n - size, -(-n // size)).round().astype(int))
        for n in shape
    ]
    return list(itertools.product(*starts))


def _cut(stack: np.ndarray, corner: tuple[int, int], size: int) -> np.ndarray:
    top, left = corner
    return stack[:, top : top + size, left : left + size]


def _join(
    tiles: np.ndarray, corners: list[tuple[int, int]], shape: tuple[int, ...]
) -> np.ndarray:
    """Returns planes `[P, H, W, C]` of the tiles, averaged where they overlap."""
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    size = tiles.shape[1]
    parts = tiles.reshape(len(corners), shape[0], *tiles.shape[1:])
    for corner, part in zip(corners, parts, strict=True):
        _cut(total, corner, size)[...] += part
        _cut(count, corner, size)[...] += 1
    return total / count


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
