"""Weights of the peers: PyTorch checkpoints of pix2pix and CycleGAN become Flax's.

The repository pytorch-CycleGAN-and-pix2pix, and ZeroCostDL4Mic which wraps it, write
`latest_net_G.pth`, `latest_net_G_A.pth`, `latest_net_D.pth` ... as state dicts of their
own layout. What is read here is told from the keys and shapes alone. torch is imported
for `.pth` files only, and nothing but tensors is ever unpickled.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UserError
from jaxgan.models import patch, resnet, unet

State = Mapping[str, np.ndarray]


class Converted(NamedTuple):
    """A network of this package, and the peer's weights for it."""

    network: unet.UNet | resnet.ResNetGenerator | patch.PatchDiscriminator
    in_channels: int
    variables: dict[str, Any]  # params and, with batch norm, batch_stats


def read_state(path: str) -> dict[str, np.ndarray]:
    """Reads a state dict from a `.pth` or `.safetensors` file.

    Raises `UserError` if the file holds anything but named tensors, or if what is
    needed to read it is not installed.
    """
    suffix = Path(path).suffix
    if suffix not in (".pth", ".pt", ".safetensors"):
        raise UserError(f"{path}: expected a .pth or .safetensors file")
    read = _read_safetensors if suffix == ".safetensors" else _read_pth
    try:
        state = read(path)
    except ImportError as error:
        need = "safetensors" if suffix == ".safetensors" else "torch"
        raise UserError(f"{path}: to read it, pip install {need}") from error
    except Exception as error:  # whatever a torn file makes a reader raise
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise UserError(f"{path}: not a file of weights ({reason})") from error
    if not state:
        raise UserError(f"{path}: holds no tensors")
    # A model that was wrapped for several GPUs has this before all of its keys.
    return {key.removeprefix("module."): array for key, array in state.items()}


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_pth(path: str) -> dict[str, np.ndarray]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if len(tensors) != len(state):
        raise ValueError("expected a state dict of tensors")
    return {key: tensor.numpy() for key, tensor in tensors.items()}


def convert(state: State) -> Converted:
    """Converts a generator or a discriminator, whichever the keys are of.

    Raises `UserError` for any other layout.
    """
    if "model.model.0.weight" in state:
        return _convert_unet(state)
    if "model.10.conv_block.1.weight" in state:
        return _convert_resnet(state)
    if _is_kernel(state, "model.0"):
        return _convert_patch(state)
    raise UserError(
        "these are the weights of no U-Net, residual generator or patch discriminator "
        f"of pytorch-CycleGAN-and-pix2pix; the first key is {next(iter(state))}"
    )


def _convert_unet(state: State) -> Converted:
    """Walks into the nested blocks, from the outermost."""
    names = {"down0": "model.model.0", "up0": "model.model.3"}
    block, level = "model.model.1.model", 1
    while True:
        names[f"down{level}"] = f"{block}.1"
        innermost = _is_kernel(state, f"{block}.3")
        if innermost:
            names[f"up{level}"], names[f"up{level}_norm"] = f"{block}.3", f"{block}.4"
            break
        names[f"down{level}_norm"] = f"{block}.2"
        names[f"up{level}"], names[f"up{level}_norm"] = f"{block}.5", f"{block}.6"
        block, level = f"{block}.3.model", level + 1
        if not _is_kernel(state, f"{block}.1"):
            raise UserError(f"a U-Net whose level {level} is missing ({block}.1)")
    first, last = (_array(state, f"{names[n]}.weight") for n in ("down0", "up0"))
    norm = _norm(state, names, "up1")
    network = unet.UNet(last.shape[1], width=first.shape[0], depth=level + 1, norm=norm)
    return Converted(network, first.shape[1], _variables(state, names, norm))


def _convert_resnet(state: State) -> Converted:
    blocks = 0
    while f"model.{10 + blocks}.conv_block.1.weight" in state:
        blocks += 1
    after = 10 + blocks
    names = {}
    for name, index in {"stem": 1, "down0": 4, "down1": 7}.items():
        names |= {name: f"model.{index}", f"{name}_norm": f"model.{index + 1}"}
    for name, index in {"up0": after, "up1": after + 3}.items():
        names |= {name: f"model.{index}", f"{name}_norm": f"model.{index + 1}"}
    names["head"] = f"model.{after + 7}"
    for block in range(blocks):
        inside = f"model.{10 + block}.conv_block"
        # With dropout the second convolution comes one place later.
        second = 6 if _is_kernel(state, f"{inside}.6") else 5
        for name, index in {"0": 1, "1": second}.items():
            names[f"block{block}_conv{name}"] = f"{inside}.{index}"
            names[f"block{block}_norm{name}"] = f"{inside}.{index + 1}"
    first, last = (_array(state, f"{names[n]}.weight") for n in ("stem", "head"))
    norm = _norm(state, names, "stem")
    norm = "instance_affine" if norm == "batch" else norm
    network = resnet.ResNetGenerator(
        last.shape[0], width=first.shape[0], num_blocks=blocks, norm=norm
    )
    return Converted(network, first.shape[1], _variables(state, names, norm))


def _convert_patch(state: State) -> Converted:
    convolutions = sorted(
        int(match[1])
        for key in state
        if (match := re.fullmatch(r"model\.(\d+)\.weight", key))
        and _is_kernel(state, f"model.{match[1]}")
    )
    names = {f"conv{i}": f"model.{place}" for i, place in enumerate(convolutions)}
    names["logits"] = names.pop(f"conv{len(convolutions) - 1}")
    for i, place in enumerate(convolutions[1:-1], 1):
        names[f"conv{i}_norm"] = f"model.{place + 1}"
    first = _array(state, "model.0.weight")
    norm = _norm(state, names, "conv1")
    network = patch.PatchDiscriminator(
        width=first.shape[0], num_layers=len(convolutions) - 2, norm=norm
    )
    return Converted(network, first.shape[1], _variables(state, names, norm))


def _is_kernel(state: State, layer: str) -> bool:
    return np.ndim(state.get(f"{layer}.weight", 0.0)) == 4


def _array(state: State, key: str) -> np.ndarray:
    if key not in state:
        raise UserError(f"the weights lack {key}")
    return np.asarray(state[key], np.float32)


def _norm(state: State, names: Mapping[str, str], layer: str) -> str:
    """Tells a network's norm: batch's has weights; without, instance keeps biases."""
    if f"{names[f'{layer}_norm']}.weight" in state:
        return "batch"
    return "instance" if f"{names[layer]}.bias" in state else "none"


def _variables(state: State, names: Mapping[str, str], norm: str) -> dict[str, Any]:
    """Returns Flax variables of the layers `names`, ours to theirs.

    Kernels go from (out, in, h, w) to (h, w, in, out), and those of transposed
    convolutions from (in, out, h, w) to (h, w, out, in): the same permutation.
    """
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for ours, theirs in names.items():
        if "_norm" in ours:
            if norm not in ("batch", "instance_affine"):
                continue
            params[ours] = {
                "scale": _array(state, f"{theirs}.weight"),
                "bias": _array(state, f"{theirs}.bias"),
            }
            stats[ours] = {
                "mean": _array(state, f"{theirs}.running_mean"),
                "var": _array(state, f"{theirs}.running_var"),
            }
            continue
        kernel = _array(state, f"{theirs}.weight").transpose(2, 3, 1, 0)
        params[ours] = {"kernel": np.ascontiguousarray(kernel)}
        if f"{theirs}.bias" in state:
            params[ours]["bias"] = _array(state, f"{theirs}.bias")
    return {"params": params, "batch_stats": stats if norm == "batch" else {}}
