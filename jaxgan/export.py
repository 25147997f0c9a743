"""Hand a trained generator over: python -m jaxgan.export --workdir=W --output=DIR

    --format=safetensors   weights.safetensors, config.json, normalization.json
    --format=onnx          model.onnx, and the same two files
    --format=bioimageio    model.zip for Fiji/deepImageJ, napari, ilastik: the ONNX with
                           test images and a description (bioimage.io)

An exported network takes and returns images in their stored units, float32 `[B, H, W,
C]`, of one size (--size, by default that of the training crops): what becomes -1 and 1
is part of it. Before anything is written the export is run and compared with the
original, which the U-Net of `supervised` does not survive yet. ONNX needs the extra
`export`; bioimageio also bioimageio.core, which in 2026 (0.11, with bioimageio.spec
0.5.12) fails with pydantic 2.14: pip install bioimageio.core "pydantic<2.13".
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

import jaxgan
from jaxgan import augment, cli, convolution, predict
from jaxgan.config import option
from jaxgan.errors import UserError
from jaxgan.predict import Trained

FORMATS = ("safetensors", "onnx", "bioimageio")
_TOLERANCE = 1e-4  # of the target range: how far an export may be from the original
_OPSET = 21


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export, and as what."""

    workdir: str = option("", "of the training run")
    output: str = option("", "folder for the result")
    format: str = option("safetensors", "of the result", choices=FORMATS)
    checkpoint: str = option("best", "best, latest or a step")
    size: int = option(0, "height and width that the export takes; 0: of training")
    name: str = option("jaxgan model", "of the model, for bioimage.io")
    author: str = option("", "of the model, for bioimage.io")
    license: str = option("CC-BY-4.0", "of the weights, for bioimage.io (SPDX)")


def main(*, options: Options) -> None:
    """Exports the generator of a workdir and prints what was written."""
    missing = [f for f in ("workdir", "output") if not getattr(options, f)]
    if missing:
        raise UserError([f"--{flag} is missing (--help)" for flag in missing])
    checkpoint = predict.parse_checkpoint(options.checkpoint)
    trained = predict.read_trained(options.workdir, checkpoint=checkpoint)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    if options.format == "safetensors":
        written = [write_safetensors(trained, folder / "weights.safetensors")]
    else:
        size = options.size or trained.config.crop_size
        _check_size(trained, size)
        onnx = to_onnx(trained, size=size)
        if options.format == "onnx":
            written = [_write(folder / "model.onnx", onnx)]
        else:
            written = [_write_bioimageio(trained, onnx, folder, options, size=size)]
    if options.format != "bioimageio":
        ranges = {
            "source": dataclasses.asdict(trained.source_range),
            "target": dataclasses.asdict(trained.target_range),
        }
        for name, content in (
            ("config.json", trained.stored),
            ("normalization.json", ranges),
        ):
            text = json.dumps(content, indent=2) + "\n"
            written.append(_write(folder / name, text.encode()))
    for path in written:
        print(path)


def make_function(trained: Trained) -> Callable[[jax.Array], jax.Array]:
    """Returns the generator as a function of images in stored units, float32.

    It is deterministic: dropout is off, batch normalisation as in prediction.
    """
    low, high = (
        jnp.array(x) for x in (trained.source_range.low, trained.source_range.high)
    )
    bottom, top = (
        jnp.array(x, jnp.float32)
        for x in (trained.target_range.low, trained.target_range.high)
    )

    def function(image: jax.Array) -> jax.Array:
        source = augment.decode(image, low, high)
        result = trained.method.generate(trained.gen, trained.variables, source)
        scale = ((top - bottom) / 2).reshape(1, 1, 1, -1)
        return (result + 1) * scale + bottom.reshape(1, 1, 1, -1)

    return function


def write_safetensors(trained: Trained, path: Path) -> Path:
    """Writes the generator's variables under flat names, `params/down0/kernel` ..."""
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise UserError(f"{path}: to write it, pip install safetensors") from error
    flat = traverse_util.flatten_dict(trained.variables, sep="/")
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    made_by = {
        "format": "flax",
        "jaxgan": jaxgan.__version__,
        "step": str(trained.step),
    }
    return _write(path, save(arrays, metadata=made_by))


def to_onnx(trained: Trained, *, size: int) -> bytes:
    """Returns the generator as ONNX, for images of `size` pixels, any number at once.

    It was run by onnxruntime and agrees with the original to 1e-4 of the range of the
    targets. Raises `UserError` if it does not, or if the extra is not installed.
    """
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(
            f'ONNX needs the extra: pip install "jaxgan[export]" ({error})'
        ) from error
    function = make_function(trained)
    shape = (size, size, len(trained.source_range.low))
    with convolution.spelled_out():
        model = to_onnx(
            function,
            [("B", *shape)],
            model_name="jaxgan",
            input_names=["source"],
            output_names=["prediction"],
            opset=_OPSET,
        )
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content)
    images = test_images(trained, size=size)
    try:
        (actual,) = session.run(None, {session.get_inputs()[0].name: images})
    except Exception as error:  # onnxruntime has no class of its own for these
        raise UserError(
            f"onnxruntime cannot run the export of a {type(trained.gen).__name__}, so "
            f"it was not written: {str(error).splitlines()[0]}"
        ) from error
    expected = np.asarray(jax.jit(function)(images))
    spread = np.subtract(trained.target_range.high, trained.target_range.low)
    error = float(np.max(np.abs(actual - expected) / spread))
    if not error <= _TOLERANCE:
        raise UserError(
            f"the ONNX export differs from the original by {error:.1e} of the target "
            "range, so it was not written; please report this network"
        )
    print(f"onnxruntime agrees with the original to {error:.1e} of the target range")
    return content


def test_images(trained: Trained, *, size: int) -> np.ndarray:
    """Returns two images `[2, size, size, C]` in stored units: ramps under noise."""
    low, high = (
        np.array(x) for x in (trained.source_range.low, trained.source_range.high)
    )
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, size)[:, None, None]
    images = 0.5 * ramp + 0.5 * rng.random((2, size, size, len(low)))
    return (low + images * (high - low)).astype(np.float32)


def _check_size(trained: Trained, size: int) -> None:
    multiple = trained.multiple
    if size < 1 or size % multiple:
        raise UserError(
            f"--size={size} does not divide by {multiple}: use --size="
            f"{max(1, round(size / multiple)) * multiple}"
        )


def _write_bioimageio(
    trained: Trained, onnx: bytes, folder: Path, options: Options, *, size: int
) -> Path:
    """Writes a package that passed `bioimageio.core`'s own test."""
    try:
        from bioimageio.core import test_model
        from bioimageio.spec import save_bioimageio_package
    except ImportError as error:
        raise UserError(
            f'pip install bioimageio.core "pydantic<2.13" ({error})'
        ) from error
    if not options.author:
        raise UserError("--author is missing: bioimage.io wants one")
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        parts = Path(inside)
        images = test_images(trained, size=size)[:1]
        (parts / "model.onnx").write_bytes(onnx)
        np.save(parts / "source.npy", images)
        np.save(parts / "prediction.npy", _run(onnx, images))
        (parts / "README.md").write_text(describe(trained, size=size), "utf-8")
        model = _description(trained, parts, options, size=size)
        summary = test_model(model)
        if summary.status == "failed":
            raise UserError(
                "bioimageio.core refuses the package, so it was not written:\n"
                + summary.format()
            )
        package = parts / "model.zip"
        save_bioimageio_package(model, output_path=package)
        print(f"bioimageio.core: {summary.status}")
        os.replace(package, folder / "model.zip")
    return folder / "model.zip"


def _run(onnx: bytes, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def _description(trained: Trained, parts: Path, options: Options, *, size: int) -> Any:
    from bioimageio.spec.model import v0_5 as v

    shape = np.load(parts / "prediction.npy").shape
    sides = {"source": size, "prediction": shape[1]}
    channels = {
        "source": len(trained.source_range.low),
        "prediction": len(trained.target_range.low),
    }

    def axes(tensor: str, space: type) -> list[Any]:
        names = [v.Identifier(f"{tensor}{i}") for i in range(channels[tensor])]
        return [
            v.BatchAxis(),
            *(space(id=v.AxisId(name), size=sides[tensor]) for name in "yx"),
            v.ChannelAxis(channel_names=names),
        ]

    def tensor(name: str) -> dict[str, Any]:
        return dict(
            id=v.TensorId(name),
            description=f"{name}, in the units of the training images",
            test_tensor=v.FileDescr(source=parts / f"{name}.npy"),
            data=v.IntervalOrRatioDataDescr(type="float32"),
        )

    return v.ModelDescr(
        name=options.name,
        description=f"{trained.stored['method']} trained with jaxgan",
        authors=[v.Author(name=options.author)],
        cite=[v.CiteEntry(text=_citation(trained), url=v.HttpUrl(_URL))],
        license=v.LicenseId(options.license),
        documentation=v.FileDescr(source=parts / "README.md"),
        inputs=[
            v.InputTensorDescr(
                axes=axes("source", v.SpaceInputAxis), **tensor("source")
            )
        ],
        outputs=[
            v.OutputTensorDescr(
                axes=axes("prediction", v.SpaceOutputAxis), **tensor("prediction")
            )
        ],
        weights=v.WeightsDescr(
            onnx=v.OnnxWeightsDescr(source=parts / "model.onnx", opset_version=_OPSET)
        ),
    )


_URL = "https://bioimage.io"


def _citation(trained: Trained) -> str:
    """Returns the paper of a method: the first lines of its module say which."""
    doc = (trained.method.__doc__ or "").strip()
    paragraph = doc.split("\n\n")[1] if "\n\n" in doc else doc
    return " ".join(paragraph.split())


def describe(trained: Trained, *, size: int) -> str:
    """Returns the page of documentation that goes with a package."""
    spread = "\n".join(
        f"- {side}, channel {i}: {low:g} and {high:g} are the network's -1 and 1"
        for side, range_ in (
            ("source", trained.source_range),
            ("target", trained.target_range),
        )
        for i, (low, high) in enumerate(zip(range_.low, range_.high, strict=True))
    )
    return (
        f"# {trained.stored['method']}, trained with jaxgan {jaxgan.__version__}\n\n"
        f"Takes and returns images in their stored units, float32, of {size}x{size}"
        " pixels. Normalisation is part of the network; there is nothing to set:\n\n"
        f"{spread}\n\nGenerated detail is not measurement: check results against images"
        " whose truth is known (validation), and do not apply the network to other"
        " specimens or microscopes than those it was trained on.\n\n"
        f"{_citation(trained)}\n"
    )


def _write(path: Path, content: bytes) -> Path:
    """Writes a file in one piece."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
