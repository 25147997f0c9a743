"""Networks under the names that pytorch-CycleGAN-and-pix2pix gives their layers.

Plain modules, so that a state dict of theirs has its keys: the layout that
`jaxgan.interop` reads.
"""

import torch
from torch import nn


def norm_of(norm: str, channels: int) -> nn.Module:
    """Returns the layer that `--norm` chooses there."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)


class Level(nn.Module):
    """One level of the nested U-Net, around the next."""

    def __init__(self, outer, inner, within=None, *, channels=None, norm, first=False):
        super().__init__()
        bias = norm == "instance"
        down = nn.Conv2d(channels or outer, inner, 4, 2, 1, bias=bias)
        widened = inner if within is None else 2 * inner
        up = nn.ConvTranspose2d(widened, outer, 4, 2, 1, bias=bias or first)
        if first:
            layers = [down, within, nn.ReLU(), up, nn.Tanh()]
        elif within is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm_of(norm, outer)]
        else:
            layers = [nn.LeakyReLU(0.2), down, norm_of(norm, inner), within]
            layers += [nn.ReLU(), up, norm_of(norm, outer)]
        self.model, self.first = nn.Sequential(*layers), first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) if self.first else torch.cat([x, self.model(x)], 1)


class NestedUNet(nn.Module):
    """`--netG unet_...` of `depth` levels."""

    def __init__(self, in_channels, out_channels, width=64, depth=8, norm="batch"):
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(depth)]
        level = None
        for i in reversed(range(1, depth)):
            level = Level(widths[i - 1], widths[i], level, norm=norm)
        self.model = Level(
            out_channels, width, level, channels=in_channels, norm=norm, first=True
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class Residual(nn.Module):
    """A block of `--netG resnet_...`; with dropout its second half moves by one."""

    def __init__(self, channels: int, dropout: bool):
        super().__init__()
        half = lambda: [  # noqa: E731
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            norm_of("instance", channels),
        ]
        middle = [nn.ReLU()] + ([nn.Dropout(0.5)] if dropout else [])
        self.conv_block = nn.Sequential(*half(), *middle, *half())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block(x)


class FlatResNet(nn.Module):
    """`--netG resnet_9blocks` and `resnet_6blocks`, with instance norm."""

    def __init__(self, in_channels, out_channels, width=64, blocks=9, dropout=False):
        super().__init__()
        norm = lambda channels: [norm_of("instance", channels), nn.ReLU()]  # noqa: E731
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7)]
        layers += norm(width)
        for i in range(2):
            before, after = width * 2**i, width * 2 ** (i + 1)
            layers += [nn.Conv2d(before, after, 3, 2, 1), *norm(after)]
        layers += [Residual(4 * width, dropout) for _ in range(blocks)]
        for i in (2, 1):
            before, after = width * 2**i, width * 2 ** (i - 1)
            layers += [nn.ConvTranspose2d(before, after, 3, 2, 1, 1), *norm(after)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class FlatPatch(nn.Module):
    """`--netD basic` (three layers) and `n_layers`."""

    def __init__(self, in_channels, width=64, num_layers=3, norm="batch"):
        super().__init__()
        bias = norm == "instance"
        layers = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        widths = [width * min(2**i, 8) for i in range(num_layers + 1)]
        for i in range(1, num_layers + 1):
            stride = 2 if i < num_layers else 1
            layers += [nn.Conv2d(widths[i - 1], widths[i], 4, stride, 1, bias=bias)]
            layers += [norm_of(norm, widths[i]), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


# (network, shape of an image); small, and deep enough to have every kind of layer.
PEERS = {
    "unet_batch": (lambda: NestedUNet(1, 2, 2, 4, "batch"), (1, 1, 32, 48)),
    "unet_instance": (lambda: NestedUNet(2, 1, 2, 4, "instance"), (1, 2, 32, 32)),
    "resnet": (lambda: FlatResNet(1, 1, 2, 2), (1, 1, 16, 20)),
    "resnet_dropout": (lambda: FlatResNet(1, 2, 2, 1, True), (1, 1, 16, 16)),
    "patch70": (lambda: FlatPatch(3, 2, 3, "batch"), (1, 3, 32, 40)),
    "patch16": (lambda: FlatPatch(2, 4, 1, "instance"), (1, 2, 16, 12)),
}


@torch.no_grad()
def answer(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Returns what the network makes of an image with running statistics."""
    return network.double().eval()(image)
