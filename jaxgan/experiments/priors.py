"""What a denoiser is made of: trained generators, trained networks, and how to search.

`N` images `[N, H, W, C]` are in the units that the generator was trained in, `d` is the
length of its latent.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import noise, predict
from jaxgan.config import from_dict, option
from jaxgan.data import normalise
from jaxgan.errors import UserError
from jaxgan.methods import adaptation, dcgan, inversion, supervised
from jaxgan.training import parallel
from jaxgan.training.workdir import Workdir, read_config

LIKELIHOODS = ("gaussian", "poisson")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How a latent is searched; the defaults are the published ones."""

    num_restarts: int = option(10, "latents to start from")
    restart_steps: int = option(1500, "steps of each")
    refine_steps: int = option(10_000, "steps from the best of them, at most")
    tolerance: float = option(1e-5, "loss at which these stop")
    search_learning_rate: float = option(0.01, "of the optimiser of latents")
    latent_clip: float = option(5.0, "latents lie between -this and this")
    optimizer: str = option("adam", "of latents", choices=inversion.OPTIMIZERS)
    likelihood: str = option(
        "gaussian",
        "what is fitted: squares, or Poisson counts that may saturate (adam, sgd)",
        choices=LIKELIHOODS,
    )
    adapt_steps: int = option(
        500, "most steps of the generator's weights; 0: published"
    )
    adapt_learning_rate: float = option(3e-4, "of the generator's weights")
    image_chunk: int = option(0, "images at once on a device, 0: all; bounds memory")
    restart_chunk: int = option(0, "restarts at once, 0: all")
    tangent_chunk: int = option(0, "tangents at once (levenberg_marquardt), 0: all")

    def __post_init__(self):
        """Raises `ValueError` for options that contradict each other."""
        if self.likelihood == "poisson" and self.optimizer == "levenberg_marquardt":
            raise ValueError(
                "--optimizer=levenberg_marquardt fits squares: use "
                "--likelihood=gaussian, or --optimizer=adam"
            )

    def loss(self, model: noise.Noise) -> noise.Loss:
        """Returns what is minimised for images with this noise."""
        if self.likelihood == "poisson" and model.kind == "poisson":
            return noise.PoissonDeviance(model.level, model.clip)
        return noise.squared_error


class Found(NamedTuple):
    """What a search makes of N images; NumPy arrays."""

    image: np.ndarray  # [N, H, W, C], of the best latent
    uncertainty: np.ndarray  # [N, H, W, C], standard deviation over the restarts
    latent: np.ndarray  # [N, d]
    loss: np.ndarray  # [N], of `image`
    inversion: inversion.Inversion


@dataclasses.dataclass(frozen=True)
class Prior:
    """A trained generator as a prior for images."""

    name: str
    size: int  # H and W of its images
    channels: int
    latent_dim: int  # d
    variables: dict[str, Any]
    forward: Callable[[dict, jax.Array], jax.Array]  # (variables, [d]) -> [H, W, C]

    def find(
        self,
        noisy: np.ndarray,
        keys: jax.Array,
        config: SearchConfig,
        *,
        loss: noise.Loss = noise.squared_error,
    ) -> Found:
        """Searches the latents of N images, one key each, over all devices.

        The keys may be given again, for other searches from the same latents.
        """
        keys = jax.random.clone(keys)
        # What follows is compiled once for what it depends on: the loss, not its name.
        config = dataclasses.replace(config, likelihood="gaussian")
        search = _search(self.forward, self.latent_dim, config, loss)
        found, spread, value = parallel.map_examples(
            search, (np.float32(noisy), keys), self.variables
        )
        return Found(found.image, spread, found.latent, value, found)

    def adapt(
        self,
        found: Found,
        noisy: np.ndarray,
        targets: np.ndarray,
        config: SearchConfig,
        *,
        loss: noise.Loss = noise.squared_error,
    ) -> adaptation.Adaptation:
        """Adapts the weights to each of N images, until its loss is at its target."""
        adapt = _adapt(
            self.forward,
            config.adapt_steps,
            config.adapt_learning_rate,
            config.latent_clip,
            loss,
        )
        examples = found.latent, np.float32(noisy), np.float32(targets)
        return parallel.map_examples(adapt, examples, self.variables)


@functools.cache
def _search(
    forward: Callable, latent_dim: int, config: SearchConfig, loss: noise.Loss
) -> Callable:
    """Returns the search of a part of the images, the same for equal arguments."""

    def search(examples: tuple, variables: dict):
        noisy, keys = examples
        generate = jax.tree_util.Partial(forward, variables)
        found = inversion.search(
            generate,
            noisy,
            keys,
            latent_dim=latent_dim,
            num_restarts=config.num_restarts,
            restart_steps=config.restart_steps,
            refine_steps=config.refine_steps,
            tolerance=config.tolerance,
            learning_rate=config.search_learning_rate,
            latent_clip=config.latent_clip,
            optimizer=config.optimizer,
            loss=loss,
            image_chunk=config.image_chunk,
            restart_chunk=config.restart_chunk,
            tangent_chunk=config.tangent_chunk,
        )
        spread = jax.lax.map(
            lambda latents: jnp.std(jax.vmap(generate)(latents), axis=0),
            found.restart_latents,
        )
        return found, spread, jax.vmap(loss)(found.image, noisy)

    return search


@functools.cache
def _adapt(
    forward: Callable, steps: int, rate: float, clip: float, loss: noise.Loss
) -> Callable:
    """Returns the adaptation to a part of the images; weights are copied one by one."""

    def adapt(examples: tuple, variables: dict):
        def one(example: tuple):
            return adaptation.adapt(
                lambda params, z: forward({**variables, "params": params}, z),
                variables["params"],
                *example,
                steps=steps,
                learning_rate=rate,
                latent_clip=clip,
                loss=loss,
            )

        return jax.lax.map(one, examples)

    return adapt


def load_prior(path: str, *, checkpoint: int | str = "latest") -> Prior:
    """Opens the generator of a workdir of dcgan; `UserError` for another method's."""
    config, range_ = _open(path, "--gan_workdir", "dcgan", dcgan.Config)
    variables, _ = predict.read_generator(path, checkpoint)
    gen = dcgan.networks(config, out_channels=len(range_.low)).gen
    low, high = (np.float32(x).reshape(1, 1, -1) for x in (range_.low, range_.high))

    def forward(variables: dict, latent: jax.Array) -> jax.Array:
        image = dcgan.generate(gen, variables, latent[None])[0]
        return low + (image + 1) / 2 * (high - low)

    channels = len(range_.low)
    name = Path(path).name
    return Prior(
        name, config.crop_size, channels, config.latent_dim, variables, forward
    )


def load_network(path: str, *, checkpoint: int | str = "latest") -> Callable:
    """Returns `denoise(images [N, H, W, C]) -> images` of a workdir of supervised."""
    flag = "--supervised_workdir"
    config, range_ = _open(path, flag, "supervised", supervised.Config)
    variables, _ = predict.read_generator(path, checkpoint)
    net = supervised.networks(config, out_channels=len(range_.low)).gen
    low, high = np.float32(range_.low), np.float32(range_.high)
    compiled = jax.jit(functools.partial(supervised.denoise, net))

    def denoise(images: np.ndarray) -> np.ndarray:
        intensity = np.float32((images - low) / (high - low))
        made = [compiled(variables, image[None])[0] for image in intensity]
        return low + np.stack(made) * (high - low)

    return denoise


def _open(path: str, flag: str, method: str, config: type):
    stored = read_config(path)
    if stored["method"] != method:
        raise UserError(f"{flag}={path} is of {stored['method']}, expected {method}")
    known = Workdir(path).read_json("normalization.json")
    range_ = normalise.from_json(known["image"])
    return from_dict(config, stored["config"]), range_
