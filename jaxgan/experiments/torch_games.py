"""Training steps of the measured games in plain PyTorch: the peers of the benchmark.

Needs PyTorch. Each takes the weights of its twin in JAX, so that both can be held to
the same losses. Images are `[B, C, H, W]` floats in [-1, 1].
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from jaxgan.experiments import torch_peer
from jaxgan.experiments.torch_peer import adversarial_loss

Losses = dict[str, torch.Tensor]
Step = Callable[..., Losses]  # of a batch's images by name


def make_pix2pix(config: Any, state: Any, device: str) -> Step:
    """Returns pix2pix's step."""
    gen = torch_peer.UNet(1, 1, config.width, config.depth, config.norm, config.dropout)
    disc = torch_peer.PatchDiscriminator(2, config.width, 3, config.norm)
    players = [(gen, state.gen), (disc, state.disc)]
    for network, player in players:
        load(network, {"params": player.params, "batch_stats": player.stats})
        network.to(device)
    optimisers = [torch_peer.adam(x, config.learning_rate) for x in (gen, disc)]
    return torch_peer.make_train_step(
        gen,
        disc,
        *optimisers,
        gan_loss=config.gan_loss,
        l1_weight=config.l1_weight,
    )


def make_cyclegan(config: Any, state: Any, device: str) -> Step:
    """Returns CycleGAN's step, G first; D sees this step's fakes, not a pool's."""
    gen, disc = (
        {
            name: load(make(), {"params": params}).to(device)
            for name, params in player.params.items()
        }
        for player, make in (
            (
                state.gen,
                lambda: torch_peer.ResNetGenerator(
                    1, 1, config.width, config.num_blocks
                ),
            ),
            (
                state.disc,
                lambda: torch_peer.PatchDiscriminator(1, config.width, 3, config.norm),
            ),
        )
    )
    gen_optimiser, disc_optimiser = (
        torch.optim.Adam(
            [p for network in player.values() for p in network.parameters()],
            config.learning_rate,
            betas=(config.beta1, 0.999),
        )
        for player in (gen, disc)
    )

    def train_step(source, target):
        real = {"a": source, "b": target}
        for network in disc.values():
            network.requires_grad_(False)
        fake, same = {}, {}
        for way in ("ab", "ba"):
            both = gen[way](torch.cat([real[way[0]], real[way[1]]]))
            fake[way[1]], same[way[1]] = both.chunk(2)
        cycle = F.l1_loss(gen["ba"](fake["b"]), source)
        cycle = cycle + F.l1_loss(gen["ab"](fake["a"]), target)
        identity = sum(F.l1_loss(same[kind], real[kind]) for kind in "ab")
        adversarial = sum(
            adversarial_loss(config.gan_loss, disc[kind](fake[kind]), True)
            for kind in "ab"
        )
        gen_loss = adversarial + config.cycle_weight * (
            cycle + config.identity_weight * identity
        )
        _descend(gen_optimiser, gen_loss)
        for network in disc.values():
            network.requires_grad_(True)
        disc_loss = sum(
            _verdicts(config.gan_loss, disc[kind], real[kind], fake[kind].detach()) / 2
            for kind in "ab"
        )
        _descend(disc_optimiser, disc_loss)
        return {"gen_loss": gen_loss.detach(), "disc_loss": disc_loss.detach()}

    return train_step


def make_srgan(config: Any, state: Any, device: str) -> Step:
    """Returns the step of SRGAN's adversarial stage."""
    doublings = config.scale.bit_length() - 1
    size = (config.crop_size, config.crop_size)
    gen = torch_peer.SRResNet(1, 1, config.width, config.num_blocks, doublings)
    disc = torch_peer.SRDiscriminator(1, config.width, size)

    def terms(fake, target, logits):
        adversarial = adversarial_loss(config.gan_loss, logits, True)
        return F.mse_loss(fake, target) + config.adversarial_weight * adversarial

    return _make_simple(
        config, state, gen, disc, device, terms, ("source", "target"), (1e-4, 1e-4)
    )


def make_dcgan(config: Any, state: Any, device: str) -> Step:
    """Returns DCGAN's step, which takes the latents too."""
    size, width = config.crop_size, config.width
    gen = torch_peer.DCGenerator(config.latent_dim, 1, width, size)
    disc = torch_peer.DCDiscriminator(1, width, size)

    def terms(fake, target, logits):
        del fake, target
        return adversarial_loss(config.gan_loss, logits, True)

    rates = (config.learning_rate, config.disc_learning_rate)
    return _make_simple(
        config, state, gen, disc, device, terms, ("latent", "image"), rates
    )


def make_search(config: Any, state: Any, device: str) -> Step:
    """Returns Adam's step of the latent search."""
    size = config.crop_size
    gen = torch_peer.DCGenerator(config.latent_dim, 1, config.width, size)
    load(gen, state.extra).to(device).eval().requires_grad_(False)
    latents = torch.tensor(np.array(state.gen.params), device=device)
    latents.requires_grad_(True)
    optimiser = torch.optim.Adam([latents], config.learning_rate)

    def train_step(image):
        distance = torch.square(gen(latents.clamp(-5, 5)) - image)
        loss = distance.mean(dim=(1, 2, 3)).sum()
        _descend(optimiser, loss)
        return {"gen_loss": loss.detach() / len(latents)}

    return train_step


PEERS: dict[str, Callable[[Any, Any, str], Step]] = {
    "pix2pix": make_pix2pix,
    "cyclegan": make_cyclegan,
    "srgan": make_srgan,
    "dcgan": make_dcgan,
    "search": make_search,
}


def load(network: nn.Module, variables: Mapping[str, Any]) -> nn.Module:
    """Gives a network the weights of its twin in Flax, and returns it."""
    arrays = dict(_flatten(variables))
    state = {}
    for key, tensor in network.state_dict().items():
        layer, name = key.rsplit(".", 1)
        if not tensor.is_floating_point():
            continue
        found = torch_peer.to_flax({key: tensor})
        (path,) = found
        array = np.array(arrays[path])
        if tensor.ndim in (2, 4):
            array = array.transpose(3, 2, 0, 1) if tensor.ndim == 4 else array.T
        state[key] = torch.from_numpy(np.ascontiguousarray(array)).reshape(tensor.shape)
    network.load_state_dict(state, strict=False)
    return network


def _make_simple(config, state, gen, disc, device, terms, names, rates) -> Step:
    """Returns a step in which D moves first, on the sum of its two losses."""
    for network, player in ((gen, state.gen), (disc, state.disc)):
        load(network, {"params": player.params, "batch_stats": player.stats})
        network.to(device)
    gen_optimiser, disc_optimiser = (
        torch.optim.Adam(network.parameters(), rate, betas=(config.beta1, 0.999))
        for network, rate in zip((gen, disc), rates, strict=True)
    )

    def train_step(**batch):
        given, target = (batch[name] for name in names)
        fake = gen(given)
        disc.requires_grad_(True)
        disc_loss = _verdicts(config.gan_loss, disc, target, fake.detach())
        _descend(disc_optimiser, disc_loss)
        disc.requires_grad_(False)
        gen_loss = terms(fake, target, disc(fake))
        _descend(gen_optimiser, gen_loss)
        return {"gen_loss": gen_loss.detach(), "disc_loss": disc_loss.detach()}

    return train_step


def _verdicts(gan_loss: str, disc: nn.Module, real, fake) -> torch.Tensor:
    return adversarial_loss(gan_loss, disc(real), True) + adversarial_loss(
        gan_loss, disc(fake), False
    )


def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
