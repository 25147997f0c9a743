"""Write the goldens: what PyTorch's networks make of random weights and images.

    python tests/make_goldens.py    # writes tests/goldens/*.npz anew

The same bytes every time; tests/models/test_goldens.py reads them.
"""

import pathlib

import numpy as np
from torch import nn
from torch_reference import (
    GOLDENS,
    PatchDiscriminator,
    PixelDiscriminator,
    UNet,
    channels_last,
    draw,
    scatter,
    to_flax,
)

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


def write_goldens(folder: pathlib.Path = GOLDENS) -> None:
    """Writes the golden of every case as an .npz file; the same bytes every time."""
    folder.mkdir(exist_ok=True)
    for seed, (name, (make, shape)) in enumerate(CASES.items()):
        path = folder / f"{name}.npz"
        np.savez_compressed(path, **make_golden(make(), shape, seed=seed))
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    write_goldens()
