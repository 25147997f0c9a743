"""Generators and discriminators against PyTorch: values, gradients, running statistics.

The goldens hold PyTorch's answers, computed in float64 by `tests/make_goldens.py`,
and the weights that they belong to.
"""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from flax import traverse_util

from jaxgan.models import dcgan, patch, resnet, srgan, unet
from tests.games import full_optimisation  # noqa: F401

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
TOLERANCE = 1e-4  # of the largest value of an array; float32 reaches 3e-6

# What counts as the largest value where it is smaller: a bias before a norm has no
# gradient but rounding, which in this deep network of batch norms reaches 5.5e-5.
FLOORS = {"sr_disc_dense": 1.0}

U_NET = {"out_channels": 2, "width": 2, "depth": 5, "dropout": 0.0}
CASES = {
    "unet_batch": unet.UNet(norm="batch", **U_NET),
    "unet_instance": unet.UNet(norm="instance", **U_NET),
    "unet_none": unet.UNet(norm="none", **U_NET),
    "patch1_batch": patch.PatchDiscriminator(width=4, num_layers=1, norm="batch"),
    "patch3_instance": patch.PatchDiscriminator(width=2, norm="instance"),
    "patch3_none": patch.PatchDiscriminator(width=2, norm="none"),
    "patch5_batch": patch.PatchDiscriminator(width=2, num_layers=5, norm="batch"),
    "pixel_batch": patch.PixelDiscriminator(width=4, norm="batch"),
    "pixel_none": patch.PixelDiscriminator(width=4, norm="none"),
    "resnet_instance": resnet.ResNetGenerator(2, width=2, num_blocks=1),
    "srresnet_x4": srgan.SRResNet(2, width=4, num_blocks=1, scale=4),
    "sr_disc_dense": srgan.SRDiscriminator(width=2, head="dense"),
    "dcgan32_gen": dcgan.Generator(32, 3, width=2),
    "dcgan64_gen": dcgan.Generator(64, 1, width=2),
    "dcgan32_disc": dcgan.Discriminator(32, width=2),
    "dcgan64_disc": dcgan.Discriminator(64, width=2),
}


def load_golden(name: str) -> dict:
    """Returns a golden as nested dicts of float32 arrays."""
    with np.load(GOLDENS / f"{name}.npz") as arrays:
        flat = {key: np.float32(arrays[key]) for key in arrays}
    golden = traverse_util.unflatten_dict(flat, sep="/")
    return {"batch_stats": {}, "updated": {"batch_stats": {}}} | golden


def run(module: nn.Module, golden: dict) -> dict:
    """Returns what `golden` holds, computed by `module`."""

    def loss(params, image):
        variables = {"params": params, "batch_stats": golden["batch_stats"]}
        output, updated = module.apply(
            variables, image, train=True, mutable=["batch_stats"]
        )
        eval_output = module.apply(variables, image, train=False)
        return jnp.sum(output * golden["cotangent"]), (output, eval_output, updated)

    loss_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, aux), grads = loss_and_grad(golden["params"], golden["image"])
    output, eval_output, updated = aux
    return {
        "output": output,
        "eval_output": eval_output,
        "updated": {"batch_stats": updated.get("batch_stats", {})},
        "grads": dict(zip(("params", "image"), grads, strict=True)),
    }


def flatten_vectors(golden: dict) -> dict:
    """Returns `golden` with images of one pixel as vectors, and those of one number."""

    def flatten(array):
        if array.ndim != 4 or array.shape[1:3] != (1, 1):
            return array
        return array[:, 0, 0, 0] if array.shape[-1] == 1 else array[:, 0, 0]

    names = ("image", "output", "eval_output", "cotangent")
    flat = {name: flatten(golden[name]) for name in names}
    grads = golden["grads"] | {"image": flatten(golden["grads"]["image"])}
    return golden | flat | {"grads": grads}


class GoldenTest(parameterized.TestCase):
    @parameterized.parameters(*CASES)
    def test_agrees_with_pytorch(self, name):
        golden = load_golden(name)
        if name.startswith("dcgan"):  # latents and logits are vectors there
            golden = flatten_vectors(golden)
        actual = run(CASES[name], golden)
        expected = {key: golden[key] for key in actual}
        expected = traverse_util.flatten_dict(expected, sep="/")
        actual = traverse_util.flatten_dict(actual, sep="/")
        assert actual.keys() == expected.keys()
        for key, array in expected.items():
            scale = max(np.abs(array).max(), FLOORS.get(name, 0.2))
            np.testing.assert_allclose(
                actual[key], array, rtol=0, atol=TOLERANCE * scale, err_msg=key
            )
