"""The networks and the training step of jaxgan in plain PyTorch: what it is held to.

Needs PyTorch. The benchmark's peers consist of these. The tests do not import it:
`make_goldens.py` and `torch_steps.py` beside them write what they compare with, so that
they run without PyTorch, and `torch_train.py` trains a peer of a run. Written from the
papers, independently of the JAX code; only the names of the layers are shared, so that
weights travel by name (`to_flax`). Images are `[B, C, H, W]` floats in [-1, 1],
discriminators return raw logits.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def make_norm(norm: str, channels: int) -> nn.Module:
    """Returns the normalisation that `norm` names, with PyTorch's own defaults."""
    if norm == "batch":
        return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, eps=1e-5)
    if norm == "instance_affine":
        return nn.InstanceNorm2d(channels, eps=1e-5, affine=True)
    assert norm == "none", norm
    return nn.Identity()


def has_bias(norm: str) -> bool:
    """Whether a convolution before `norm` has a bias: not if the norm adds one."""
    return norm in ("instance", "none")


class UNet(nn.Module):
    """Isola et al., 2017, appendix 6.1.1, with the layers of its PyTorch code.

    Level 0 is the outermost. `down{i}` halves the image, `up{i}` doubles it.
    """

    def __init__(
        self, in_channels, out_channels, width=64, depth=8, norm="batch", dropout=0.5
    ):
        super().__init__()
        self.depth = depth
        widths = [width * min(2**i, 8) for i in range(depth)]
        bias = has_bias(norm)
        for i in range(depth):
            before = in_channels if i == 0 else widths[i - 1]
            down = nn.Conv2d(before, widths[i], 4, 2, 1, bias=bias)
            self.add_module(f"down{i}", down)
            if 0 < i < depth - 1:
                self.add_module(f"down{i}_norm", make_norm(norm, widths[i]))
        for i in reversed(range(depth)):
            inner = widths[i] if i == depth - 1 else 2 * widths[i]
            outer = out_channels if i == 0 else widths[i - 1]
            up = nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=bias or i == 0)
            self.add_module(f"up{i}", up)
            if i > 0:
                self.add_module(f"up{i}_norm", make_norm(norm, outer))
            if 4 <= i < depth - 1:
                self.add_module(f"up{i}_dropout", nn.Dropout(dropout))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        layers = dict(self.named_children())
        skips = [layers["down0"](image)]
        for i in range(1, self.depth):
            x = layers[f"down{i}"](F.leaky_relu(skips[-1], 0.2))
            skips.append(layers[f"down{i}_norm"](x) if i < self.depth - 1 else x)
        x = skips.pop()
        for i in reversed(range(1, self.depth)):
            x = layers[f"up{i}_norm"](layers[f"up{i}"](F.relu(x)))
            if f"up{i}_dropout" in layers:
                x = layers[f"up{i}_dropout"](x)
            x = torch.cat([skips.pop(), x], 1)
        return torch.tanh(layers["up0"](F.relu(x)))


class PatchDiscriminator(nn.Module):
    """Isola et al., 2017, appendix 6.1.2: `num_layers` 1, 3, 5 see 16, 70, 286 pixels.

    `num_layers` strided convolutions, then two of stride 1.
    """

    def __init__(self, in_channels, width=64, num_layers=3, norm="batch"):
        super().__init__()
        self.num_layers = num_layers
        widths = [width * min(2**i, 8) for i in range(num_layers + 1)]
        self.conv0 = nn.Conv2d(in_channels, width, 4, 2, 1)
        for i in range(1, num_layers + 1):
            stride = 2 if i < num_layers else 1
            bias = has_bias(norm)
            conv = nn.Conv2d(widths[i - 1], widths[i], 4, stride, 1, bias=bias)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"conv{i}_norm", make_norm(norm, widths[i]))
        self.logits = nn.Conv2d(widths[-1], 1, 4, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        layers = dict(self.named_children())
        x = F.leaky_relu(self.conv0(image), 0.2)
        for i in range(1, self.num_layers + 1):
            x = F.leaky_relu(layers[f"conv{i}_norm"](layers[f"conv{i}"](x)), 0.2)
        return self.logits(x)


class PixelDiscriminator(nn.Module):
    """Isola et al., 2017, sec. 4.4: 1x1 convolutions only."""

    def __init__(self, in_channels, width=64, norm="batch"):
        super().__init__()
        bias = has_bias(norm)
        self.conv0 = nn.Conv2d(in_channels, width, 1)
        self.conv1 = nn.Conv2d(width, 2 * width, 1, bias=bias)
        self.conv1_norm = make_norm(norm, 2 * width)
        self.logits = nn.Conv2d(2 * width, 1, 1, bias=bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.conv0(image), 0.2)
        return self.logits(F.leaky_relu(self.conv1_norm(self.conv1(x)), 0.2))


class ResNetGenerator(nn.Module):
    """Zhu et al., 2017, sec. 7.2, with the layers of CycleGAN's PyTorch code."""

    def __init__(self, in_channels, out_channels, width=64, num_blocks=9):
        super().__init__()
        self.num_blocks = num_blocks
        self.stem = nn.Conv2d(in_channels, width, 7)
        self.stem_norm = make_norm("instance", width)
        for i in range(2):
            before, after = width * 2**i, width * 2 ** (i + 1)
            self.add_module(f"down{i}", nn.Conv2d(before, after, 3, 2, 1))
            self.add_module(f"down{i}_norm", make_norm("instance", after))
        for i in range(num_blocks):
            for j in range(2):
                self.add_module(f"block{i}_conv{j}", nn.Conv2d(4 * width, 4 * width, 3))
                self.add_module(f"block{i}_norm{j}", make_norm("instance", 4 * width))
        for i in range(2):
            before, after = width * 2 ** (2 - i), width * 2 ** (1 - i)
            up = nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1)
            self.add_module(f"up{i}", up)
            self.add_module(f"up{i}_norm", make_norm("instance", after))
        self.head = nn.Conv2d(width, out_channels, 7)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        layers = dict(self.named_children())

        def reflect(x, border):
            return nn.ReflectionPad2d(border)(x)

        x = F.relu(self.stem_norm(self.stem(reflect(image, 3))))
        for i in range(2):
            x = F.relu(layers[f"down{i}_norm"](layers[f"down{i}"](x)))
        for i in range(self.num_blocks):
            y = layers[f"block{i}_conv0"](reflect(x, 1))
            y = F.relu(layers[f"block{i}_norm0"](y))
            y = layers[f"block{i}_conv1"](reflect(y, 1))
            x = x + layers[f"block{i}_norm1"](y)
        for i in range(2):
            x = F.relu(layers[f"up{i}_norm"](layers[f"up{i}"](x)))
        return torch.tanh(self.head(reflect(x, 3)))


class SRResNet(nn.Module):
    """Ledig et al., 2017, fig. 4, with one PReLU slope for all channels."""

    def __init__(self, in_channels, out_channels, width=64, num_blocks=16, doublings=2):
        super().__init__()
        self.num_blocks, self.doublings = num_blocks, doublings
        self.stem = nn.Conv2d(in_channels, width, 9, 1, 4)
        self.stem_prelu = nn.PReLU()
        for i in range(num_blocks):
            for j in range(2):
                conv = nn.Conv2d(width, width, 3, 1, 1)
                self.add_module(f"block{i}_conv{j}", conv)
                self.add_module(f"block{i}_norm{j}", make_norm("batch", width))
            self.add_module(f"block{i}_prelu", nn.PReLU())
        self.body = nn.Conv2d(width, width, 3, 1, 1)
        self.body_norm = make_norm("batch", width)
        for i in range(doublings):
            self.add_module(f"up{i}", nn.Conv2d(width, 4 * width, 3, 1, 1))
            self.add_module(f"up{i}_prelu", nn.PReLU())
        self.head = nn.Conv2d(width, out_channels, 9, 1, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        layers = dict(self.named_children())
        x = stem = self.stem_prelu(self.stem(image))
        for i in range(self.num_blocks):
            y = layers[f"block{i}_norm0"](layers[f"block{i}_conv0"](x))
            y = layers[f"block{i}_conv1"](layers[f"block{i}_prelu"](y))
            x = x + layers[f"block{i}_norm1"](y)
        x = stem + self.body_norm(self.body(x))
        for i in range(self.doublings):
            x = nn.PixelShuffle(2)(layers[f"up{i}"](x))
            x = layers[f"up{i}_prelu"](x)
        return self.head(x)


class SRDiscriminator(nn.Module):
    """Ledig et al., 2017, fig. 4, for images of `size`; pooled if that is None."""

    def __init__(self, in_channels, width=64, size=None):
        super().__init__()
        self.pooled = size is None
        before = in_channels
        for i in range(8):
            after = width * 2 ** (i // 2)
            self.add_module(f"conv{i}", nn.Conv2d(before, after, 3, 1 + i % 2, 1))
            if i > 0:
                self.add_module(f"conv{i}_norm", make_norm("batch", after))
            before = after
        pixels = 1 if self.pooled else size[0] // 16 * (size[1] // 16)
        self.hidden = nn.Linear(8 * width * pixels, 16 * width)
        self.logits = nn.Linear(16 * width, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        layers = dict(self.named_children())
        x = F.leaky_relu(self.conv0(image), 0.2)
        for i in range(1, 8):
            x = F.leaky_relu(layers[f"conv{i}_norm"](layers[f"conv{i}"](x)), 0.2)
        if self.pooled:
            x = F.adaptive_avg_pool2d(x, 1)
        x = x.permute(0, 2, 3, 1).flatten(1)  # as Flax orders them
        return self.logits(F.leaky_relu(self.hidden(x), 0.2))


# As models.dcgan has them: channels of G's and of D's levels, in multiples of a width.
_GENERATOR = {32: (8, 4, 2, 1), 64: (8, 4, 2, 1), 512: (16, 8, 4, 2, 1, 1, 1)}
_DISCRIMINATOR = {32: (1, 2, 4, 8), 64: (1, 2, 4, 8), 512: (1, 1, 1, 2, 4, 8, 16)}


class DCGenerator(nn.Module):
    """Radford et al., 2016, fig. 1, with the layers of PyTorch's example.

    At `size` 32 a 1x1 layer makes the image, else one more doubling. Takes latents
    `[B, d]` or `[B, d, 1, 1]`.
    """

    def __init__(self, latent_dim, out_channels, width=64, size=64):
        super().__init__()
        before, self.levels = latent_dim, len(_GENERATOR[size])
        for i, multiple in enumerate(_GENERATOR[size]):
            place = (4, 1, 0) if i == 0 else (4, 2, 1)
            up = nn.ConvTranspose2d(before, multiple * width, *place, bias=False)
            self.add_module(f"up{i}", up)
            self.add_module(f"up{i}_norm", make_norm("batch", multiple * width))
            before = multiple * width
        place = (1, 1, 0) if size == 32 else (4, 2, 1)
        self.image = nn.ConvTranspose2d(before, out_channels, *place, bias=False)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        layers, x = dict(self.named_children()), latent.reshape(*latent.shape[:2], 1, 1)
        for i in range(self.levels):
            x = F.relu(layers[f"up{i}_norm"](layers[f"up{i}"](x)))
        return torch.tanh(self.image(x))


class DCDiscriminator(nn.Module):
    """The counterpart of `DCGenerator`: images of `size` to logits `[B, 1, 1, 1]`."""

    def __init__(self, in_channels, width=64, size=64):
        super().__init__()
        before, self.levels = in_channels, len(_DISCRIMINATOR[size])
        for i, multiple in enumerate(_DISCRIMINATOR[size]):
            down = nn.Conv2d(before, multiple * width, 4, 2, 1, bias=False)
            self.add_module(f"down{i}", down)
            if i > 0:
                self.add_module(f"down{i}_norm", make_norm("batch", multiple * width))
            before = multiple * width
        self.logit = nn.Conv2d(before, 1, size >> self.levels, bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        layers = dict(self.named_children())
        x = F.leaky_relu(self.down0(image), 0.2)
        for i in range(1, self.levels):
            x = F.leaky_relu(layers[f"down{i}_norm"](layers[f"down{i}"](x)), 0.2)
        return self.logit(x)


def vgg19_features(count: int) -> nn.Sequential:
    """Returns the first `count` layers of VGG19, numbered as torchvision does."""
    layers, before = [], 3
    for width, repeats in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(repeats):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers[:count])


def initialise(network: nn.Module) -> nn.Module:
    """Draws weights from N(0, .02), norms' scales from N(1, .02); biases are zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif getattr(layer, "weight", None) is not None:
            nn.init.normal_(layer.weight, 1.0, 0.02)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
    return network


def scatter(network: nn.Module, generator: np.random.Generator) -> None:
    """Draws every weight and statistic anew, so that none is 0, 1 or negligible."""
    for key, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue  # the batch norms' step counters
        if tensor.ndim in (2, 4):
            fan_in = tensor.numel() / max(tensor.shape[:2])
            tensor.copy_(draw(generator, tensor.shape, scale=(2 / fan_in) ** 0.5))
        elif key.endswith("prelu.weight"):
            tensor.copy_(draw(generator, tensor.shape, scale=0.1, mean=0.25))
        elif key.endswith("weight"):
            tensor.copy_(draw(generator, tensor.shape, scale=0.2, mean=1.0))
        elif key.endswith("running_var"):
            tensor.copy_(draw(generator, tensor.shape, scale=0.1, mean=1.0))
        else:
            tensor.copy_(draw(generator, tensor.shape, scale=0.2))


def draw(generator: np.random.Generator, shape, *, scale=1.0, mean=0.0) -> torch.Tensor:
    """Draws normal numbers that float16 holds exactly, as float64."""
    array = mean + scale * generator.standard_normal(shape)
    return torch.from_numpy(array.astype(np.float16).astype(np.float64))


# --- training ------------------------------------------------------------------------


def adversarial_loss(gan_loss: str, logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Returns the distance of the verdicts to "all real" or "all fake"."""
    target = torch.full_like(logits, float(real))
    if gan_loss == "vanilla":
        return F.binary_cross_entropy_with_logits(logits, target)
    assert gan_loss == "lsgan", gan_loss
    return F.mse_loss(logits, target)


def adam(network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Returns the optimiser of the paper."""
    return torch.optim.Adam(network.parameters(), learning_rate, betas=(0.5, 0.999))


def make_train_step(
    gen: nn.Module,
    disc: nn.Module,
    gen_optimiser: torch.optim.Optimizer,
    disc_optimiser: torch.optim.Optimizer,
    *,
    gan_loss: str = "vanilla",
    l1_weight: float = 100.0,
) -> Callable[[torch.Tensor, torch.Tensor], dict[str, float]]:
    """Returns `train_step(source, target) -> losses`; D moves first, on half its loss.

    Isola et al., 2017, sec. 3.3.
    """

    def judge(source, image):
        return disc(torch.cat([source, image], 1))

    def train_step(source, target):
        fake = gen(source)

        disc.requires_grad_(True)
        on_fake = adversarial_loss(gan_loss, judge(source, fake.detach()), False)
        on_real = adversarial_loss(gan_loss, judge(source, target), True)
        disc_loss = (on_fake + on_real) / 2
        disc_optimiser.zero_grad()
        disc_loss.backward()
        disc_optimiser.step()

        disc.requires_grad_(False)
        adversarial = adversarial_loss(gan_loss, judge(source, fake), True)
        l1 = F.l1_loss(fake, target)
        gen_loss = adversarial + l1_weight * l1
        gen_optimiser.zero_grad()
        gen_loss.backward()
        gen_optimiser.step()

        losses = {"disc_loss": disc_loss, "gen_loss": gen_loss, "l1": l1}
        return {name: loss.item() for name, loss in losses.items()}

    return train_step


@torch.no_grad()
def predict(gen: nn.Module, source: torch.Tensor) -> torch.Tensor:
    """Applies a generator with each image's own statistics and without dropout."""
    gen.train()
    for layer in gen.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
    return torch.cat([gen(image[None]) for image in source])


# --- images and weights for Flax -----------------------------------------------------


def channels_last(image: torch.Tensor) -> np.ndarray:
    """Returns images `[B, C, H, W]` as `[B, H, W, C]`, and logits `[B, 1]` as such."""
    if image.ndim == 2:
        return image.detach().numpy()
    return image.detach().permute(0, 2, 3, 1).numpy()


def to_flax(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Returns a `state_dict` as Flax variables, flat: `params/down0/kernel` ...

    Kernels go from (out, in, h, w) to (h, w, in, out), and those of transposed
    convolutions from (in, out, h, w) to (h, w, out, in): the same permutation.
    """
    names = {
        "bias": "params/{}/bias",
        "running_mean": "batch_stats/{}/mean",
        "running_var": "batch_stats/{}/var",
    }
    variables = {}
    for key, tensor in state.items():
        layer, name = key.rsplit(".", 1)
        array = tensor.detach().numpy()
        if name == "weight" and array.ndim == 4:
            variables[f"params/{layer}/kernel"] = array.transpose(2, 3, 1, 0)
        elif name == "weight" and array.ndim == 2:
            variables[f"params/{layer}/kernel"] = array.T
        elif layer.endswith("prelu"):
            variables[f"params/{layer}/negative_slope"] = array[0]
        elif name == "weight":
            variables[f"params/{layer}/scale"] = array
        elif name in names:
            variables[names[name].format(layer)] = array
    return variables
