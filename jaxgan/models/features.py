"""Frozen feature extractors whose weights the user supplies.

Images are `[B, H, W, C]` floats in [-1, 1], grey or RGB.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import layers
from jaxgan.errors import UserError

# Channels of the convolutions between two max-pools of VGG19.
_BLOCKS = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
# Block and convolution, counted from one as the paper does: phi_{5,4}, phi_{2,2}.
VGG_LAYERS = {"vgg54": (5, 4), "vgg22": (2, 2)}

_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, in [0, 1]
_DEVIATION = (0.229, 0.224, 0.225)

_CURE = (
    "give a safetensors file of VGG19 without batch norm, trained on ImageNet, in "
    "torchvision's naming (features.0.weight ...): that of timm's vgg19.tv_in1k on the "
    "Hugging Face hub, or torchvision's vgg19 saved by safetensors.torch.save_file"
)


class VGG19(nn.Module):
    """The features of VGG19 after the ReLU of one of its convolutions.

    Simonyan & Zisserman, 2015, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", table 1, column E.
    """

    layer: str = "vgg54"  # one of VGG_LAYERS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps images `[B, H, W, 1 or 3]` in [-1, 1] to features `[B, h, w, C]`.

        ImageNet's mean and deviation are applied here; grey counts as R = G = B.
        """
        if image.shape[-1] not in (1, 3):
            raise ValueError(
                f"VGG19 takes grey or RGB images, got {image.shape[-1]} channels; use "
                "content=pixel for others"
            )
        image = jnp.broadcast_to(image, (*image.shape[:-1], 3))
        mean, deviation = (
            jnp.array(x).reshape(1, 1, 1, 3) for x in (_MEAN, _DEVIATION)
        )
        x = ((image + 1) / 2 - mean) / deviation
        last_block, last_conv = VGG_LAYERS[self.layer]
        for i, widths in enumerate(_BLOCKS[:last_block], 1):
            if i > 1:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for j, width in enumerate(widths, 1):
                name = f"conv{i}_{j}"
                conv = layers.Conv(width, kernel_size=3, dtype=self.dtype, name=name)
                x = nn.relu(conv(x))
                if (i, j) == (last_block, last_conv):
                    break
        return x.astype(jnp.float32)


def load_vgg19(path: str, *, layer: str = "vgg54") -> tuple[dict[str, Any], str]:
    """Returns the parameters of `VGG19(layer)`, from a file, and the file's SHA-256.

    Raises `UserError` if the file is missing, is not safetensors, or does not hold
    VGG19's convolutions in torchvision's or timm's naming.
    """
    if not path:
        raise UserError(
            f"--vgg_weights is missing, which --content={layer} needs: {_CURE}"
        )
    if not Path(path).is_file():
        raise UserError(f"--vgg_weights={path}: there is no such file; {_CURE}")
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise UserError("--vgg_weights needs the package safetensors") from error
    try:
        stored = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise UserError(f"--vgg_weights={path}: {error}; {_CURE}") from error
    params = from_torchvision(stored, layer=layer, name=f"--vgg_weights={path}")
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return params, digest


def from_torchvision(
    stored: Mapping[str, np.ndarray], *, layer: str, name: str
) -> dict[str, Any]:
    """Returns parameters of `VGG19(layer)` from `features.N.weight` and `.bias`.

    Raises `UserError`, which begins with `name`, for what is missing or of another
    shape; VGG19 with batch norm, for one, counts its layers otherwise.
    """
    params, problems = {}, []
    index, inputs = 0, 3
    for i, widths in enumerate(_BLOCKS, 1):
        for j, width in enumerate(widths, 1):
            if (i, j) <= VGG_LAYERS[layer]:
                expected = {"weight": (width, inputs, 3, 3), "bias": (width,)}
                for kind, shape in expected.items():
                    key = f"features.{index}.{kind}"
                    found = np.shape(stored[key]) if key in stored else "missing"
                    if found != shape:
                        problems.append(f"{key} is {found}, expected {shape}")
                if not problems:
                    kernel, bias = (stored[f"features.{index}.{k}"] for k in expected)
                    params[f"conv{i}_{j}"] = {
                        "kernel": np.float32(kernel).transpose(2, 3, 1, 0),
                        "bias": np.float32(bias),
                    }
            index, inputs = index + 2, width  # a convolution and its ReLU
        index += 1  # the max-pool
    if problems:
        raise UserError(f"{name} is not VGG19: {'; '.join(problems[:3])}; {_CURE}")
    return params
