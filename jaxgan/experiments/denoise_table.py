"""Denoisers side by side on images whose truth is known: scores and pictures.

Images are `[N, H, W, C]` intensities.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import classical, columns, metrics, noise
from jaxgan.experiments.priors import Prior, SearchConfig
from jaxgan.training import grid

Table = dict[str, dict[str, dict[str, float]]]  # by noise, method and score


class Truth(NamedTuple):
    """Clean images and where their atomic columns are."""

    images: np.ndarray  # [N, H, W, C]
    columns: Sequence[np.ndarray]  # N times [M, 2] of row and column


def compare(
    truth: Truth,
    models: Sequence[noise.Noise],
    *,
    priors: Sequence[Prior],
    networks: Mapping[str, Callable],
    search: SearchConfig,
    key: jax.Array,
    unbias: bool,
    say: Callable[[str], None] = print,
) -> tuple[Table, dict[str, dict[str, np.ndarray]]]:
    """Scores every denoiser under every noise; returns scores and images.

    With `unbias`, the bias of clipped counts is undone for every denoiser but those
    that have none, of a Poisson likelihood; without, for none.
    """
    filters = classical.filters()
    table, pictures = {}, {}
    for number, model in enumerate(models):
        noise_key, search_key = jax.random.split(jax.random.fold_in(key, number))
        noisy = add_noise(truth.images, noise_key, model)
        undo = finish(model if unbias else noise.Noise("none"))
        made = {"clean": truth.images, "noisy": noisy}
        for name, filter_ in filters.items():
            made[name] = np.stack(
                classical.denoise_each(filter_, noisy, truth.images, finish=undo)[0]
            )
        for name, network in networks.items():
            made[name] = undo(network(noisy))
        keys = jax.random.split(search_key, len(noisy))
        for prior in priors:
            made |= _with_prior(prior, noisy, keys, model, search, undo)
        name = _name(model)
        pictures[name] = made
        table[name] = {method: score(truth, images) for method, images in made.items()}
        say(f"{name}: done")
    return table, pictures


def _with_prior(
    prior: Prior,
    noisy: np.ndarray,
    keys: jax.Array,
    model: noise.Noise,
    search: SearchConfig,
    undo: Callable[[np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
    """Returns the images of the published search and of what came after it."""
    found = prior.find(noisy, keys, search)
    made = {prior.name: undo(found.image)}
    loss = search.loss(model)
    if loss is not noise.squared_error:
        undo = lambda image: image  # noqa: E731
        found = prior.find(noisy, keys, search, loss=loss)
        made[f"{prior.name}, Poisson"] = found.image
    if search.adapt_steps:
        targets = noise_levels(found.image, keys, model, loss, noisy)
        adapted = prior.adapt(found, noisy, targets, search, loss=loss)
        made[f"{prior.name}, adapted"] = undo(adapted.image)
    return made


def noise_levels(
    images: np.ndarray,
    keys: jax.Array,
    model: noise.Noise,
    loss: noise.Loss,
    noisy: np.ndarray,
) -> np.ndarray:
    """Returns the loss `[N]` that the truth would have, as far as one can know.

    Of known noise it is what the images found would have; of unknown noise, its
    variance as `noise.estimate` finds it in the noisy images.
    """
    if model.kind == "none":
        variance = noise.estimate(jnp.asarray(noisy, jnp.float32)) ** 2
        return np.asarray(variance) * noisy.shape[-1]
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
    level = lambda x, key: noise.level_of(x, key, model, loss)  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(level))(images, keys))


def score(truth: Truth, images: np.ndarray) -> dict[str, float]:
    """Returns means over the images: PSNR, SSIM and what happened to atomic columns.

    "PSNR" has peak 1; the peak of "PSNR, range" and "SSIM" is the contrast of each
    clean image, its maximum less its minimum.
    """
    rows = []
    for clean, image, places in zip(truth.images, images, truth.columns, strict=True):
        a, b = (np.float32(x)[None] for x in (clean, image))
        peak = float(np.ptp(clean))
        found = columns.match(places, columns.find(image.mean(axis=-1)))
        rows.append(
            {
                "PSNR": float(metrics.psnr(a, b, peak=1.0)[0]),
                "PSNR, range": float(metrics.psnr(a, b, peak=peak)[0]),
                "SSIM": float(metrics.ssim(a, b, peak=peak)[0]),
                "recall": found.recall,
                "precision": found.precision,
                "error (px)": found.error,
            }
        )
    return {name: _mean([row[name] for row in rows]) for name in rows[0]}


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the numbers among the values, NaN if there are none."""
    values = [value for value in values if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def write(
    folder: Path, table: Table, pictures: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Writes table.json, table.md and a picture of the first image, table.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(json.dumps(table, indent=1))
    (folder / "table.md").write_text(markdown(table))
    rows = []
    for name, made in pictures.items():
        low, high = made["clean"][0].min(), made["clean"][0].max()
        rows.append(
            {
                name if kind == "noisy" else kind: 2 * (x[0] - low) / (high - low) - 1
                for kind, x in made.items()
            }
        )
    grid.image_grid(folder / "table.png", rows)


def markdown(table: Table) -> str:
    """Returns a table of scores for each noise."""
    lines = []
    for heading, rows in table.items():
        names = list(next(iter(rows.values())))
        lines += [f"**{heading}**", "", f"| | {' | '.join(names)} |"]
        lines += ["|---|" + "---|" * len(names)]
        for method, values in rows.items():
            cells = [_number(values[name], name) for name in names]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _number(value: float, name: str) -> str:
    if np.isnan(value) or np.isinf(value):
        return "–" if np.isnan(value) else "∞"
    return f"{value:.1f}" if name.startswith("PSNR") else f"{value:.2f}"


def add_noise(clean: np.ndarray, key: jax.Array, model: noise.Noise) -> np.ndarray:
    """Returns images `[N, H, W, C]` with noise of a child of the key each."""
    keys = jax.random.split(key, len(clean))
    draw = jax.jit(jax.vmap(lambda x, k: noise.add(x, k, model)))
    return np.asarray(draw(jnp.asarray(clean, jnp.float32), keys))


def finish(model: noise.Noise) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what undoes the bias that this noise has, for images `[N, H, W, C]`."""
    undo = jax.jit(lambda image: noise.unbias(image, model))
    return lambda image: np.asarray(undo(jnp.asarray(image, jnp.float32)))


def _name(model: noise.Noise) -> str:
    return model.kind if model.kind == "none" else f"{model.kind}:{model.level:g}"
