"""The discriminators that a flag can name, each by the patch of an image it judges."""

import flax.linen as nn

from jaxgan.models import patch, skip_patch

_PATCH_LAYERS = {"patch70": 3, "patch16": 1, "patch286": 5}

DISCRIMINATORS = (*_PATCH_LAYERS, "pixel", "skip_patch")


def discriminator(name: str, **options) -> nn.Module:
    """Returns the discriminator that `--discriminator` names, one of `DISCRIMINATORS`.

    `options` are the fields that all of them have: width, norm, dtype, axis_name.
    """
    if name == "pixel":
        return patch.PixelDiscriminator(**options)
    if name == "skip_patch":
        return skip_patch.SkipPatchDiscriminator(**options)
    return patch.PatchDiscriminator(num_layers=_PATCH_LAYERS[name], **options)
