"""VGG19's features against PyTorch, and what is said of files that do not hold them."""

import pathlib

import jax
import numpy as np
import pytest

from jaxgan.errors import UserError
from jaxgan.models import features

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "vgg19.npz"
CONVOLUTIONS = {0: 3, 2: 64, 5: 64, 7: 128, 10: 128}  # input channels by number
CONVOLUTIONS |= dict.fromkeys((12, 14, 16, 19), 256)
CONVOLUTIONS |= dict.fromkeys((21, 23, 25, 28, 30, 32, 34), 512)
WIDTHS = {0: 64, 2: 64, 5: 128, 7: 128} | dict.fromkeys((10, 12, 14, 16), 256)


@pytest.fixture(scope="module")
def weights():
    """The weights that `make_goldens.vgg_weights` drew, in torchvision's naming."""
    generator, result = np.random.default_rng(0), {}
    for number, inputs in CONVOLUTIONS.items():
        shape = (WIDTHS.get(number, 512), inputs, 3, 3)
        scale = np.float32((2 / np.prod(shape[1:])) ** 0.5)
        noise = generator.standard_normal(shape, np.float32)
        result[f"features.{number}.weight"] = scale * noise
        bias = 0.1 * generator.standard_normal(shape[0], np.float32)
        result[f"features.{number}.bias"] = np.float32(bias)
    return result


@pytest.mark.parametrize("layer", features.VGG_LAYERS)
def test_agrees_with_pytorch(weights, layer):
    params = features.from_torchvision(weights, layer=layer, name="weights")
    vgg = features.VGG19(layer=layer)
    with np.load(GOLDEN) as golden:
        apply = jax.jit(lambda x: vgg.apply({"params": params}, x))
        actual, expected = apply(np.float32(golden["image"])), golden[layer]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)
    assert np.mean(expected > 0) > 0.2


def test_only_the_layers_that_are_needed_are_read(weights):
    params = features.from_torchvision(weights, layer="vgg22", name="weights")
    assert set(params) == {"conv1_1", "conv1_2", "conv2_1", "conv2_2"}


def test_weights_of_another_network_are_refused(weights):
    # VGG19 with batch norm counts otherwise.
    shifted = {k: v for k, v in weights.items() if not k.startswith("features.5.")}
    with pytest.raises(UserError, match="features.5.weight is missing, expected .128,"):
        features.from_torchvision(shifted, layer="vgg54", name="--vgg_weights=x")
    small = weights | {"features.2.bias": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match=r"features.2.bias is \(3,\), expected \(64,\)"):
        features.from_torchvision(small, layer="vgg22", name="--vgg_weights=x")


@pytest.mark.parametrize("path", ["", "/nowhere/vgg19.safetensors"])
def test_absent_weights_end_with_the_place_to_get_them(path):
    with pytest.raises(UserError, match="timm's vgg19.tv_in1k"):
        features.load_vgg19(path)


def test_a_file_is_read_and_summed(tmp_path, weights):
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    path = tmp_path / "vgg19.safetensors"
    few = {key: weights[key] for key in weights if int(key.split(".")[1]) <= 7}
    save_file(few, path)
    params, digest = features.load_vgg19(str(path), layer="vgg22")
    assert len(digest) == 64
    np.testing.assert_array_equal(
        params["conv1_2"]["kernel"][0, 1, 5], few["features.2.weight"][:, 5, 0, 1]
    )
    path.write_bytes(b"PK not safetensors")
    with pytest.raises(UserError, match="timm's"):
        features.load_vgg19(str(path), layer="vgg22")


def test_images_of_two_channels_have_no_features():
    vgg = features.VGG19(layer="vgg22")
    image = jax.ShapeDtypeStruct((1, 16, 16, 2), np.float32)
    with pytest.raises(ValueError, match="2 channels; use content=pixel"):
        jax.eval_shape(vgg.init, jax.random.key(0), image)
