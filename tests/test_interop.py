"""Checkpoints of the peers: converted networks answer as PyTorch's did.

The goldens hold state dicts under the peers' own keys, an image, and the answer of the
plain PyTorch modules in tests/torch_peers.py (`tests/make_goldens.py`).
"""

import pathlib

import jax
import numpy as np
import pytest
import tifffile
from safetensors.numpy import save_file

from jaxgan import interop, predict
from jaxgan.errors import UserError
from jaxgan.experiments import import_torch

GOLDENS = pathlib.Path(__file__).parent / "goldens"
PEERS = sorted(path.stem for path in GOLDENS.glob("peer_*.npz"))


def load(name):
    """Returns a state dict, an image and the answer."""
    with np.load(GOLDENS / f"{name}.npz") as arrays:
        state = {k[6:]: arrays[k] for k in arrays if k.startswith("state/")}
        return state, arrays["image"], arrays["output"]


def write(path, name):
    save_file(load(name)[0], path)
    return str(path)


def run(workdir, **options):
    import_torch.main(options=import_torch.Options(workdir=str(workdir), **options))


def test_there_are_goldens_of_every_kind():
    assert len(PEERS) == 6


@pytest.mark.parametrize("name", PEERS)
def test_converted_networks_answer_as_pytorchs(name):
    state, image, expected = load(name)
    network, in_channels, variables = interop.convert(state)
    assert in_channels == image.shape[-1]
    apply = jax.jit(lambda v, x: network.apply(v, x, train=False))
    actual = apply(variables, image)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def test_a_pix2pix_workdir_predicts(tmp_path):
    gen = write(tmp_path / "latest_net_G.safetensors", "peer_unet_instance")
    workdir = tmp_path / "run"
    run(workdir, gen=gen, crop_size=32)
    _, image, expected = load("peer_unet_instance")
    model = predict.load(str(workdir))
    stored = (image[0] + 1) * 127.5
    np.testing.assert_allclose(
        model(stored), (expected[0] + 1) * 127.5, atol=0.01, rtol=1e-4
    )


def test_a_cyclegan_workdir_predicts(tmp_path):
    gen = write(tmp_path / "latest_net_G_A.safetensors", "peer_resnet")
    workdir = tmp_path / "run"
    run(workdir, gen=gen, gen_back=gen, crop_size=24)
    _, image, expected = load("peer_resnet")
    tifffile.imwrite(tmp_path / "x.tif", (image[0, ..., 0] + 1) * np.float32(127.5))
    options = predict.Options(
        workdir=(str(workdir),),
        input=str(tmp_path / "x.tif"),
        output=str(tmp_path / "out"),
        output_dtype="float32",
    )
    predict.main(options=options)
    np.testing.assert_allclose(
        tifffile.imread(tmp_path / "out" / "x.tif"),
        (expected[0, ..., 0] + 1) * 127.5,
        atol=0.01,
        rtol=1e-4,
    )


def test_a_discriminator_comes_along(tmp_path):
    gen = write(tmp_path / "G.safetensors", "peer_unet_batch")
    disc = write(tmp_path / "D.safetensors", "peer_patch70")
    run(tmp_path / "run", gen=gen, disc=disc, crop_size=32)
    variables, step = predict.read_generator(str(tmp_path / "run"), "latest")
    assert step == 0
    expected = interop.convert(load("peer_unet_batch")[0]).variables
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    with pytest.raises(UserError, match="holds a run"):
        run(tmp_path / "run", gen=gen, crop_size=32)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gen": "peer_patch16"}, "PatchDiscriminator, expected UNet or"),
        ({"gen": "peer_unet_batch", "crop_size": 20}, "does not divide by 2.depth"),
        ({"gen": "peer_unet_batch", "disc": "peer_resnet"}, "--disc=.* is a ResNet"),
        ({"gen": "peer_unet_batch", "disc": "peer_patch16"}, "do not fit"),
        ({}, "--gen is missing"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, options, message):
    for name in ("gen", "disc"):
        if name in options:
            path = tmp_path / f"{name}.safetensors"
            options = {**options, name: write(path, options[name])}
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **{"crop_size": 32, **options})
    assert not (tmp_path / "run" / "config.json").exists()


def test_files_that_are_no_weights_are_refused(tmp_path):
    whole = pathlib.Path(write(tmp_path / "a.safetensors", "peer_resnet")).read_bytes()
    torn = tmp_path / "torn.safetensors"
    for content in (b"", whole[:100], whole[: len(whole) // 2]):
        torn.write_bytes(content)
        with pytest.raises(UserError, match="torn.safetensors"):
            interop.read_state(str(torn))
    with pytest.raises(UserError, match=r"expected a \.pth"):
        interop.read_state(str(tmp_path / "G.h5"))
    state, _, _ = load("peer_resnet")
    del state["model.4.weight"]
    with pytest.raises(UserError, match=r"lack model\.4\.weight"):
        interop.convert(state)
    with pytest.raises(UserError, match="first key is x"):
        interop.convert({"x": np.zeros(2)})


def test_a_pth_with_code_in_it_is_never_run(tmp_path):
    torch = pytest.importorskip("torch")

    class Malice:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "touched",))

    torch.save({"model.0.weight": Malice()}, tmp_path / "G.pth")
    with pytest.raises(UserError, match="not a file of weights"):
        interop.read_state(str(tmp_path / "G.pth"))
    assert not (tmp_path / "touched").exists()
    tensors = {k: torch.from_numpy(v) for k, v in load("peer_patch16")[0].items()}
    torch.save(tensors, tmp_path / "D.pth")
    read = interop.read_state(str(tmp_path / "D.pth"))
    jax.tree.map(np.testing.assert_array_equal, read, load("peer_patch16")[0])
