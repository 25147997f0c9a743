"""Steps of pix2pix in plain PyTorch, for jaxgan's to be compared with.

    python tests/torch_steps.py    # writes tests/goldens/step_*.npz anew

Not a test and never imported by one. Each golden holds a game's weights, the batches
of three steps of plain SGD, computed in float64, and what came of them.
"""

import make_goldens
import numpy as np
import torch

from jaxgan.experiments import torch_peer as reference

STEPS, BATCH, SIZE = 3, 2, 16
RATE, L1_WEIGHT = 0.02, 10.0
CASES = [
    (loss, norm) for loss in ("vanilla", "lsgan") for norm in ("batch", "instance")
]


def make_golden(gan_loss: str, norm: str, *, seed: int) -> dict[str, np.ndarray]:
    """Returns "before/", "after/" and "batch/" arrays in Flax's layout, and losses."""
    generator = np.random.default_rng(seed)
    players = {
        "gen": reference.UNet(1, 2, 2, 3, norm, 0.0).double(),
        "disc": reference.PatchDiscriminator(3, 2, 1, norm).double(),
    }
    sgd = {}
    for name, player in players.items():
        make_goldens.scatter(player, generator)
        sgd[name] = torch.optim.SGD(player.parameters(), RATE)
    train_step = reference.make_train_step(
        *players.values(), *sgd.values(), gan_loss=gan_loss, l1_weight=L1_WEIGHT
    )
    before = {f"before/{key}": np.float16(x) for key, x in variables(players)}
    batches = [
        [
            make_goldens.draw(generator, (BATCH, c, SIZE, SIZE), scale=0.5)
            for c in (1, 2)
        ]
        for _ in range(STEPS)
    ]
    losses = [train_step(*batch) for batch in batches]
    after = {f"after/{key}": np.float32(x) for key, x in variables(players)}
    golden = before | after
    for index, name in enumerate(("source", "target")):
        images = [reference.channels_last(batch[index]) for batch in batches]
        golden[f"batch/{name}"] = np.float16(images)
    for name in losses[0]:
        golden[f"losses/{name}"] = np.float32([loss[name] for loss in losses])
    return golden


def variables(players: dict[str, torch.nn.Module]) -> list[tuple[str, np.ndarray]]:
    """Returns the weights of both players by name, without running statistics."""
    return [
        (f"{name}/{key.removeprefix('params/')}", array)
        for name, player in players.items()
        for key, array in reference.to_flax(player.state_dict()).items()
        if key.startswith("params/")
    ]


if __name__ == "__main__":
    for seed, case in enumerate(CASES):
        path = make_goldens.GOLDENS / f"step_{'_'.join(case)}.npz"
        np.savez_compressed(path, **make_golden(*case, seed=seed))
        print(f"{path}: {path.stat().st_size:,} bytes")
