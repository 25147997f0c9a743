"""Train PyTorch's networks as a jaxgan run was trained, and score both with one code.

    python tests/torch_train.py --workdir=W --output=FILE    # the peer of a run
    python tests/torch_train.py --workdir=W --output=FILE --score-jaxgan

W is a workdir of `jaxgan.experiments.pix2pix`, begun with --source, --target and
--steps. The peer starts from weights of its own and draws its own dropout; crops, flips
and their order, settings and held-out images are the run's. Both commands print and
write the same scores, as JSON.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch.optim import lr_scheduler

from jaxgan import evaluate, predict
from jaxgan.config import from_dict
from jaxgan.data.pairs import Split
from jaxgan.experiments import pix2pix as experiment
from jaxgan.experiments import session
from jaxgan.experiments import torch_peer as torch_reference
from jaxgan.methods import pix2pix
from jaxgan.training import log, parallel, workdir
from jaxgan.training.run import RunConfig

# What the peer follows; every other setting must be at its default.
FOLLOWED = frozenset(
    "crop_size batch_size width depth norm dropout disc_width disc_norm gan_loss"
    " l1_weight learning_rate decay_fraction flip rotate crop_area".split()
)

Translate = Callable[[np.ndarray], np.ndarray]  # stored [H, W, I] to [-1, 1]


class Run(NamedTuple):
    """A run of jaxgan, from its workdir."""

    sections: dict[str, Any]  # configurations, by the names of the main's sections
    split: Split

    @property
    def config(self) -> pix2pix.Config:
        return self.sections["config"]

    @property
    def steps(self) -> int:
        return self.sections["run"].steps


def open_run(path: str, *, seed: int | None = None, steps: int | None = None) -> Run:
    """Reads a workdir's configuration and opens its images.

    `seed` and `steps` replace the run's own. Raises `ValueError` for a run without a
    peer.
    """
    stored = workdir.read_config(path)
    names = ("config", "data", "simulation", "run")
    sections = {
        name: from_dict(experiment.SECTIONS[name], stored[name]) for name in names
    }
    run: RunConfig = sections["run"]
    sections["run"] = dataclasses.replace(
        run,
        seed=run.seed if seed is None else seed,
        steps=steps or run.steps,
        steps_per_call=1,
    )
    unlike = [
        f.name
        for f in dataclasses.fields(pix2pix.Config)
        if f.name not in FOLLOWED and getattr(sections["config"], f.name) != f.default
    ]
    if unlike or not sections["run"].steps:
        raise ValueError(f"{path}: the peer needs --steps and knows no {unlike}")
    images = experiment.open_images(*(sections[name] for name in names[:3]))
    return Run(sections, images)


# --- the peer ------------------------------------------------------------------------


class Position(NamedTuple):
    """All that cutting crops needs of a state."""

    step: jax.Array


def training_batches(run: Run) -> Iterator[dict[str, torch.Tensor]]:
    """Yields the batches that the run's own steps saw, decoded, cropped and flipped.

    They come out of jaxgan's own update, around a step that does nothing but return its
    batch, so that they are those of the run by construction.
    """
    if jax.local_device_count() != 1:
        raise ValueError("the first device's batch is not the whole: use one device")

    def hand_out(position: Position, batch: Any, key: jax.Array):
        del key
        return Position(position.step + 1), batch

    options, seed = run.sections["run"], run.sections["run"].seed
    prepare = experiment.make_prepare(run.config, run.sections["data"], run.split)
    update = parallel.make_update(hand_out, prepare)
    position = parallel.replicate(Position(np.int32(0)))
    stored = session.host_batches(
        run.split.train,
        0,
        crop_size=run.config.crop_size,
        batch_size=run.config.batch_size,
        run=options,
        total_steps=run.steps,
    )
    key = jax.random.fold_in(jax.random.key(seed), 1)  # as `session.fit` makes it
    for batch in stored:
        position, batches = update(position, parallel.shard(batch), key)
        yield {
            name: channels_first(np.asarray(images)[0])
            for name, images in batches.items()
        }


def channels_first(images: np.ndarray) -> torch.Tensor:
    """Returns images `[B, H, W, C]` as `[B, C, H, W]`."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def build_networks(run: Run) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Returns the untrained generator and discriminator."""
    config = run.config
    train = run.split.train
    channels = train.source.channels, train.target.channels
    gen = torch_reference.UNet(
        *channels, config.width, config.depth, config.norm, config.dropout
    )
    disc = torch_reference.PatchDiscriminator(
        sum(channels),
        config.disc_width or config.width,
        norm=config.disc_norm or config.norm,
    )
    return torch_reference.initialise(gen), torch_reference.initialise(disc)


def learning_rate_factor(steps: int, fraction: float) -> Callable[[int], float]:
    """Returns the schedule of pix2pix's code: 1, then falling over the last `fraction`.

    It would be zero at the step after the last.
    """
    falling = int(steps * fraction)
    constant = steps - falling
    return lambda step: 1 - max(0, step + 1 - constant) / (falling + 1)


def train(run: Run) -> tuple[torch.nn.Module, dict[str, float]]:
    """Trains the peer from scratch; returns its generator and the seconds it took."""
    torch.manual_seed(run.sections["run"].seed)
    config = run.config
    gen, disc = build_networks(run)
    optimisers = [torch_reference.adam(x, config.learning_rate) for x in (gen, disc)]
    factor = learning_rate_factor(run.steps, config.decay_fraction)
    schedules = [lr_scheduler.LambdaLR(x, factor) for x in optimisers]
    train_step = torch_reference.make_train_step(
        gen, disc, *optimisers, gan_loss=config.gan_loss, l1_weight=config.l1_weight
    )
    durations, began = [], time.monotonic()
    for step, batch in enumerate(training_batches(run), start=1):
        step_began = time.monotonic()
        losses = train_step(batch["source"], batch["target"])
        for schedule in schedules:
            schedule.step()
        durations.append(time.monotonic() - step_began)
        if step % max(1, run.steps // 20) == 0:
            print(f"{step:6d}", *(f"{k} {v:.4f}" for k, v in losses.items()))
    return gen, {
        "train_seconds": time.monotonic() - began,
        "ms_per_step": 1e3 * float(np.median(durations)),
    }


def translate_with(gen: torch.nn.Module, run: Run) -> Translate:
    """Returns what applies a trained peer to images that its depth divides."""

    def translate(image: np.ndarray) -> np.ndarray:
        source = evaluate.decode(image, run.split.source_range)[None]
        output = torch_reference.predict(gen, channels_first(source))
        return torch_reference.channels_last(output)[0]

    return translate


# --- the run -------------------------------------------------------------------------


def load_trained(path: str) -> tuple[Translate, dict[str, float]]:
    """Returns what applies a run's latest generator, and the seconds of its training.

    Both come from what a user has: `jaxgan.predict` and `metrics.jsonl`.
    """
    model = predict.load(path, checkpoint="latest")
    rows = log.read_rows(pathlib.Path(path) / "metrics.jsonl")
    rates = [r["perf/images_per_sec"] for r in rows if "perf/images_per_sec" in r]
    timing = {
        "train_seconds": rows[-1]["perf/train_seconds"],
        "ms_per_step": 1e3 * model.config["config"]["batch_size"] / np.median(rates),
    }
    return lambda image: evaluate.decode(model(image), model.target_range), timing


# --- scores of either ----------------------------------------------------------------


def score(translate: Translate, run: Run) -> dict[str, float]:
    """Returns mean scores over the held-out images, compared in [-1, 1].

    "std" is the standard deviation over an image's pixels, which a blurred prediction
    lacks, and "target_std" what it should be.
    """
    examples = list(
        evaluate.predict_pairs(
            translate,
            run.split.val,
            source_range=run.split.source_range,
            target_range=run.split.target_range,
        )
    )
    return {
        **evaluate.mean_scores((e.prediction, e.target) for e in examples),
        "std": float(np.mean([e.prediction.std() for e in examples])),
        "target_std": float(np.mean([e.target.std() for e in examples])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="of the jaxgan run")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file")
    parser.add_argument("--seed", type=int, help="of the peer (default: the run's)")
    parser.add_argument("--steps", type=int, help="its length (default: the run's)")
    parser.add_argument(
        "--score-jaxgan", action="store_true", help="score the run instead of a peer"
    )
    args = parser.parse_args()
    run = open_run(args.workdir, seed=args.seed, steps=args.steps)
    if args.score_jaxgan:
        translate, timing = load_trained(args.workdir)
    else:
        gen, timing = train(run)
        translate = translate_with(gen, run)
    scores = {**score(translate, run), **timing}
    args.output.write_text(json.dumps(scores, indent=2) + "\n")
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
