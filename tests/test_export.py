"""Exports: what is written is the network, and is checked before it is written.

jax2onnx, onnxruntime and bioimageio.core are no test dependencies: their tests run
where they are installed.
"""

import json
import types

import jax
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from jaxgan import convolution, export, layers, predict
from jaxgan.data import normalise
from jaxgan.errors import UserError
from jaxgan.models import denoiser, srgan, unet
from tests import games, test_interop


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """A pix2pix and a CycleGAN, of a few weights."""
    folder = tmp_path_factory.mktemp("trained")
    for name, size in (("unet_batch", 32), ("resnet", 24)):
        gen = test_interop.write(folder / f"{name}.safetensors", f"peer_{name}")
        test_interop.run(folder / name, gen=gen, crop_size=size)
    return folder


def run(workdir, output, **options):
    options = {"workdir": str(workdir), "output": str(output), **options}
    export.main(options=export.Options(**options))


def test_safetensors_hold_every_variable(workdirs, tmp_path):
    run(workdirs / "unet_batch", tmp_path)
    flat = load_file(tmp_path / "weights.safetensors")
    variables, _ = predict.read_generator(str(workdirs / "unet_batch"), "latest")
    expected = traverse_util.flatten_dict(variables, sep="/")
    assert flat.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(flat[name], array)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["method"] == "pix2pix"
    ranges = json.loads((tmp_path / "normalization.json").read_text())
    assert ranges["source"]["high"] == [255.0]
    assert not list(tmp_path.glob(".*"))


def test_the_function_takes_and_returns_stored_units(workdirs):
    path = str(workdirs / "unet_batch")
    trained = predict.read_trained(path)
    images = export.test_images(trained, size=32)
    actual = jax.jit(export.make_function(trained))(images)
    model = predict.load(path)
    np.testing.assert_allclose(actual[0], model(images[0]), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("stride, odd", [(1, 0), (2, 0), (2, 1)])
def test_operations_spelled_out_are_the_same(stride, odd):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 6, 5, 3), np.float32)
    for size, padding in ((4, 1), (3, 1), (3, 0)):
        for make, padding_options in (
            (layers.Conv, {"padding": padding}),
            (layers.ConvTranspose, {"padding": padding, "output_padding": odd}),
        ):
            layer = make(2, kernel_size=size, stride=stride, **padding_options)
            variables = layer.init(jax.random.key(0), image)
            expected = layer.apply(variables, image)
            with convolution.spelled_out():
                actual = layer.apply(variables, image)
            np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["unet_batch", "resnet"])
def test_onnx_agrees_and_takes_any_number_of_images(workdirs, tmp_path, name):
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    run(workdirs / name, tmp_path, format="onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    trained = predict.read_trained(str(workdirs / name))
    images = export.test_images(trained, size=trained.config.crop_size)
    images = np.concatenate([images, images[:1]])
    (actual,) = session.run(None, {"source": images})
    expected = jax.jit(export.make_function(trained))(images)
    np.testing.assert_allclose(actual, expected, atol=255e-4)


@pytest.mark.parametrize(
    "gen, size",
    [
        (unet.UNet(1, width=2, depth=3, norm="instance", upsample="resize"), 32),
        (srgan.SRResNet(1, width=4, num_blocks=1, scale=4), 8),
        (denoiser.DnCNN(3, width=4), 16),
    ],
    ids=["unet_resize", "srresnet", "dncnn"],
)
def test_every_other_network_of_images_becomes_onnx(gen, size):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    image = np.zeros((1, size, size, 1), np.float32)
    variables = games.draw_variables(gen, image, train=False)
    method = types.SimpleNamespace(
        generate=lambda gen, variables, source: gen.apply(
            variables, source, train=False
        )
    )
    unit = normalise.Range((0.0,), (1.0,), "float32")
    trained = predict.Trained({}, unit, unit, method, None, gen, variables, 0)
    assert export.to_onnx(trained, size=size)  # raises if they disagree by 1e-4


def test_an_export_that_disagrees_is_not_written(workdirs, tmp_path, monkeypatch):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs from the original"):
        run(workdirs / "resnet", tmp_path, format="onnx")
    assert not list(tmp_path.iterdir())


# bioimageio leaves files to the garbage collector.
@pytest.mark.filterwarnings("ignore")
def test_a_bioimageio_package_passes_its_own_test(workdirs, tmp_path):
    pytest.importorskip("jax2onnx")
    core = pytest.importorskip("bioimageio.core")
    run(workdirs / "resnet", tmp_path, format="bioimageio", author="Ada")
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
    assert core.test_model(tmp_path / "model.zip").status == "passed"


def test_what_cannot_be_exported_is_said(workdirs, tmp_path):
    with pytest.raises(UserError, match="--output is missing"):
        run(workdirs / "resnet", "")
    with pytest.raises(
        UserError, match="--size=30 does not divide by 4: use --size=32"
    ):
        run(workdirs / "resnet", tmp_path, format="onnx", size=30)
