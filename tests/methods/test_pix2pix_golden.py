"""Three steps of SGD against the same three in plain PyTorch.

`tests/torch_steps.py` made the goldens, in float64.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import traverse_util

from jaxgan import losses
from jaxgan.methods import pix2pix

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
RATE, L1_WEIGHT = 0.02, 10.0


def load_golden(gan_loss, norm):
    """Returns a golden as nested dicts of float32 arrays."""
    with np.load(GOLDENS / f"step_{gan_loss}_{norm}.npz") as arrays:
        flat = {key: np.float32(arrays[key]) for key in arrays}
    return traverse_util.unflatten_dict(flat, sep="/")


def either(is_vanilla):
    """Returns a game that is vanilla's or least squares', by a number in the program.

    So that one compiled program serves both.
    """

    def choose(first, second):
        return lambda *logits: jnp.where(is_vanilla, first(*logits), second(*logits))

    both = zip(losses.vanilla(), losses.lsgan(), strict=True)
    return losses.Adversarial(*(choose(*pair) for pair in both))


@functools.partial(jax.jit, static_argnames="norm")
def train(norm, is_vanilla, before, batches):
    """Returns the parameters of both players and the losses `[steps]`."""
    config = pix2pix.Config(
        crop_size=16, width=2, depth=3, norm=norm, discriminator="patch16"
    )
    networks = pix2pix.networks(config, out_channels=2)
    tx = optax.sgd(RATE)
    train_step = pix2pix.make_train_step(
        *networks, tx, tx, gan=either(is_vanilla), l1_weight=L1_WEIGHT
    )
    first = {name: images[0] for name, images in batches.items()}
    init = functools.partial(pix2pix.init, networks, pix2pix.Optimizers(tx, tx))
    shapes = jax.eval_shape(init, jax.random.key(0), **first)
    # Running statistics need a place, but training never reads them.
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    state = state.replace(
        gen=state.gen.replace(params=before["gen"]),
        disc=state.disc.replace(params=before["disc"]),
    )
    step = lambda state, batch: train_step(state, batch, jax.random.key(0))  # noqa: E731
    state, metrics = jax.lax.scan(step, state, batches)
    return {"gen": state.gen.params, "disc": state.disc.params}, metrics


class GoldenTest(parameterized.TestCase):
    @parameterized.product(gan_loss=("vanilla", "lsgan"), norm=("batch", "instance"))
    def test_steps_are_pytorchs(self, gan_loss, norm):
        golden = load_golden(gan_loss, norm)
        params, metrics = train(
            norm, gan_loss == "vanilla", golden["before"], golden["batch"]
        )
        for name, values in golden["losses"].items():
            np.testing.assert_allclose(metrics[name], values, rtol=1e-4, err_msg=name)
        before, expected, actual = (
            traverse_util.flatten_dict(tree, sep="/")
            for tree in (golden["before"], golden["after"], params)
        )
        assert actual.keys() == expected.keys()
        for key, array in expected.items():
            # A bias before an instance norm has no gradient, but rounding: hence 1e-3.
            scale = max(np.abs(array - before[key]).max(), 1e-3)
            np.testing.assert_allclose(
                actual[key], array, rtol=0, atol=1e-3 * scale, err_msg=key
            )
