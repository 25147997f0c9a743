"""Write the goldens: what PyTorch's networks make of random weights and images.

    python tests/make_goldens.py    # writes tests/goldens/*.npz anew

The same bytes every time; tests/models/test_goldens.py reads them.
"""

import pathlib

import numpy as np
import torch
from torch import nn
from torch_peers import PEERS, answer

from jaxgan.experiments.torch_peer import (
    DCDiscriminator,
    DCGenerator,
    PatchDiscriminator,
    PixelDiscriminator,
    ResNetGenerator,
    SRDiscriminator,
    SRResNet,
    UNet,
    channels_last,
    draw,
    scatter,
    to_flax,
    vgg19_features,
)

GOLDENS = pathlib.Path(__file__).parent / "goldens"

# Widths small enough for Git, shapes (B, C, H, W) mostly not square, and images large
# enough that no feature map under a norm is a single pixel.
CASES = {
    "unet_batch": (lambda: UNet(1, 2, 2, 5, "batch", 0.0), (2, 1, 32, 64)),
    "unet_instance": (lambda: UNet(1, 2, 2, 5, "instance", 0.0), (2, 1, 32, 32)),
    "unet_none": (lambda: UNet(1, 2, 2, 5, "none", 0.0), (2, 1, 32, 32)),
    "patch1_batch": (lambda: PatchDiscriminator(3, 4, 1, "batch"), (2, 3, 16, 12)),
    "patch3_instance": (
        lambda: PatchDiscriminator(2, 2, 3, "instance"),
        (2, 2, 32, 40),
    ),
    "patch3_none": (lambda: PatchDiscriminator(2, 2, 3, "none"), (2, 2, 32, 40)),
    "patch5_batch": (lambda: PatchDiscriminator(1, 2, 5, "batch"), (1, 1, 96, 128)),
    "pixel_batch": (lambda: PixelDiscriminator(2, 4, "batch"), (2, 2, 7, 5)),
    "pixel_none": (lambda: PixelDiscriminator(2, 4, "none"), (2, 2, 7, 5)),
    "resnet_instance": (lambda: ResNetGenerator(1, 2, 2, 1), (2, 1, 16, 20)),
    "srresnet_x4": (lambda: SRResNet(1, 2, 4, 1, 2), (2, 1, 6, 5)),
    "sr_disc_dense": (lambda: SRDiscriminator(1, 2, (48, 32)), (2, 1, 48, 32)),
    "dcgan32_gen": (lambda: DCGenerator(5, 3, 2, 32), (3, 5, 1, 1)),
    "dcgan64_gen": (lambda: DCGenerator(5, 1, 2, 64), (2, 5, 1, 1)),
    "dcgan32_disc": (lambda: DCDiscriminator(3, 2, 32), (3, 3, 32, 32)),
    "dcgan64_disc": (lambda: DCDiscriminator(1, 2, 64), (2, 1, 64, 64)),
}


def make_golden(network: nn.Module, shape, *, seed: int) -> dict[str, np.ndarray]:
    """Returns variables, image, output and the gradients of sum(output * cotangent).

    All are in Flax's layout. The image, the cotangent and the variables are numbers
    that float16 holds exactly and the rest is computed in float64, so that the only
    error a comparison sees is that of the code under test. `output` and `grads/` are of
    training mode, `updated/` the running statistics after it, `eval_output` is of the
    running statistics before it.
    """
    generator = np.random.default_rng(seed)
    scatter(network.double(), generator)
    variables = {k: np.float16(v) for k, v in to_flax(network.state_dict()).items()}
    image = draw(generator, shape).requires_grad_()

    sizes = count_averaged(network)
    eval_output = network.eval()(image)
    output = network.train()(image)
    cotangent = draw(generator, output.shape)
    output.backward(cotangent)

    results = {
        "output": channels_last(output),
        "eval_output": channels_last(eval_output),
    }
    results["grads/image"] = channels_last(image.grad)
    grads = {name: weight.grad for name, weight in network.named_parameters()}
    results |= {f"grads/{key}": value for key, value in to_flax(grads).items()}
    for key, value in to_flax(network.state_dict()).items():
        if key.endswith("/var"):
            # PyTorch keeps the unbiased variance n/(n-1) of a batch, Flax the biased.
            kept = 0.9 * np.float64(variables[key])
            n = sizes[key.split("/")[1]]
            value = kept + (value - kept) * (n - 1) / n
        if key.startswith("batch_stats/"):
            results[f"updated/{key}"] = value
    results = {key: np.float32(value) for key, value in results.items()}
    image, cotangent = channels_last(image), channels_last(cotangent)
    exact = {"image": np.float16(image), "cotangent": np.float16(cotangent)}
    return variables | exact | results


def count_averaged(network: nn.Module) -> dict[str, int]:
    """Returns a dict that fills, as the network runs, with each batch norm's B*H*W."""
    sizes = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda _layer, _inputs, output, name=name: sizes.update(
                    {name: output[:, 0].numel()}
                )
            )
    return sizes


def vgg_weights(generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws VGG19's weights in torchvision's naming: too many to keep, so by formula.

    `generator` is `np.random.default_rng(0)`, there and in the test.
    """
    weights = {}
    for name, layer in vgg19_features(36).named_children():
        if isinstance(layer, nn.Conv2d):
            shape = tuple(layer.weight.shape)
            scale = (2 / np.prod(shape[1:])) ** 0.5
            noise = generator.standard_normal(shape, np.float32)
            weights[f"features.{name}.weight"] = np.float32(scale) * noise
            bias = 0.1 * generator.standard_normal(shape[0], np.float32)
            weights[f"features.{name}.bias"] = np.float32(bias)
    return weights


def make_vgg_golden() -> dict[str, np.ndarray]:
    """Returns a grey image in [-1, 1] and its features 2,2 and 5,4 after the ReLU."""
    generator = np.random.default_rng(0)
    weights = vgg_weights(generator)
    image = np.float16(generator.uniform(-1, 1, (1, 16, 32, 1)))
    x = (torch.from_numpy(np.float64(image)).permute(0, 3, 1, 2) + 1) / 2
    mean, deviation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = x.expand(-1, 3, -1, -1) - torch.tensor(mean, dtype=x.dtype).view(1, 3, 1, 1)
    x = x / torch.tensor(deviation, dtype=x.dtype).view(1, 3, 1, 1)
    golden = {"image": image}
    for name, count in {"vgg22": 9, "vgg54": 36}.items():
        network = vgg19_features(count).double()
        kept = {f"features.{key}": key for key in network.state_dict()}
        network.load_state_dict(
            {key: torch.from_numpy(weights[name]) for name, key in kept.items()}
        )
        golden[name] = np.float32(channels_last(network(x)))
    return golden


def make_peer_golden(network: nn.Module, shape, *, seed: int) -> dict[str, np.ndarray]:
    """Returns a peer's state dict ("state/..."), an image, and what it makes of it."""
    generator = np.random.default_rng(seed)
    network.double()
    with torch.no_grad():
        scatter(network, generator)
    image = draw(generator, shape)
    state = {
        f"state/{key}": np.float32(tensor.numpy())
        for key, tensor in network.state_dict().items()
    }
    output = np.float32(channels_last(answer(network, image)))
    return {**state, "image": np.float32(channels_last(image)), "output": output}


def write_goldens(folder: pathlib.Path = GOLDENS) -> None:
    """Writes the golden of every case as an .npz file; the same bytes every time."""
    folder.mkdir(exist_ok=True)
    for seed, (name, (make, shape)) in enumerate(CASES.items()):
        path = folder / f"{name}.npz"
        np.savez_compressed(path, **make_golden(make(), shape, seed=seed))
        print(f"{path}: {path.stat().st_size:,} bytes")
    np.savez_compressed(folder / "vgg19.npz", **make_vgg_golden())
    for seed, (name, (make, shape)) in enumerate(PEERS.items()):
        golden = make_peer_golden(make(), shape, seed=seed)
        np.savez_compressed(folder / f"peer_{name}.npz", **golden)


if __name__ == "__main__":
    write_goldens()
