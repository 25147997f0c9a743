"""How far a generator looks: the halo that a tile of its input needs."""

import math

import flax.linen as nn

from jaxgan.models import denoiser
from jaxgan.models.resnet import ResNetGenerator
from jaxgan.models.srgan import SRResNet
from jaxgan.models.unet import UNet

EVERYWHERE = 2**30  # pixels: no tile has a halo of so many


def halo(gen: nn.Module) -> int:
    """Returns from how many pixels away, at most, an output pixel is influenced.

    Normalisation by an image's own statistics, which sees all of it, does not count.
    Raises `ValueError` for a network that is not known here.
    """
    if isinstance(gen, UNet):
        # 4x4 convolutions of stride 2: 3 (1 + 2 + ... 2^(depth-1)) down, 3/2 of the
        # step up again at each level.
        return 6 * 2 ** (gen.depth - 1) - 3
    if isinstance(gen, ResNetGenerator):
        # 7x7; 3x3 down twice; two 3x3 per block at a quarter of the size; up; 7x7.
        return 4 * (3 + 2 * gen.num_blocks) + 6
    if isinstance(gen, SRResNet):
        reach = 4  # the 9x9 head, at the size of the output
        for _ in range(int(math.log2(gen.scale))):
            reach = math.ceil(reach / 2) + 1
        return reach + 1 + 2 * gen.num_blocks + 4
    if isinstance(gen, denoiser.DnCNN):
        return gen.depth  # 3x3 convolutions
    if isinstance(gen, denoiser.UNet):
        # Its bilinear scaling fits corners to corners, whose distance is the image's.
        return EVERYWHERE
    raise ValueError(f"the receptive field of {type(gen).__name__} is not known")
