"""What was done, in words: a paragraph to paste into a methods section."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jaxgan
from jaxgan.data.normalise import Range
from jaxgan.report.generators import Generator
from jaxgan.report.images import (
    INDEPENDENT,
    SELECTION,
    TRAINING,
    UNKNOWN,
    Images,
    Seen,
)
from jaxgan.report.study import Study
from jaxgan.training.workdir import Workdir

CITATIONS = {
    "pix2pix": "Isola, P., Zhu, J.-Y., Zhou, T. & Efros, A. A. Image-to-image"
    " translation with conditional adversarial networks. CVPR (2017).",
    "unet": "Ronneberger, O., Fischer, P. & Brox, T. U-Net: convolutional networks for"
    " biomedical image segmentation. MICCAI (2015).",
    "cyclegan": "Zhu, J.-Y., Park, T., Isola, P. & Efros, A. A. Unpaired image-to-image"
    " translation using cycle-consistent adversarial networks. ICCV (2017).",
    "srgan": "Ledig, C. et al. Photo-realistic single image super-resolution using a"
    " generative adversarial network. CVPR (2017).",
    "supervised": "Mohan, S. et al. Deep denoising for scientific discovery: a case"
    " study in electron microscopy. arXiv:2010.12970 (2020).",
    "adam": "Kingma, D. P. & Ba, J. Adam: a method for stochastic optimization. ICLR"
    " (2015).",
    "ssim": "Wang, Z., Bovik, A. C., Sheikh, H. R. & Simoncelli, E. P. Image quality"
    " assessment: from error visibility to structural similarity. IEEE Trans. Image"
    " Process. 13, 600-612 (2004).",
    "frc": "Saxton, W. O. & Baumeister, W. The correlation averaging of a regularly"
    " arranged bacterial cell envelope protein. J. Microsc. 127, 127-138 (1982).",
    "wiener": "Wiener, N. Extrapolation, Interpolation, and Smoothing of Stationary"
    " Time Series. MIT Press (1949).",
    "jax": "Bradbury, J. et al. JAX: composable transformations of Python+NumPy"
    " programs. http://github.com/jax-ml/jax (2018).",
    "flax": "Heek, J. et al. Flax: a neural network library and ecosystem for JAX."
    " http://github.com/google/flax (2024).",
}
_OF_METHOD = {
    "pix2pix": ("pix2pix", "unet"),
    "cyclegan": ("cyclegan",),
    "srgan": ("srgan",),
    "supervised": ("supervised",),
}
_WHAT = {
    "pix2pix": "A conditional generative adversarial network (pix2pix) was trained to"
    " translate source into target images",
    "cyclegan": "A cycle-consistent generative adversarial network (CycleGAN) was"
    " trained to translate source into target images without pairs",
    "srgan": "A super-resolution network (SRResNet or SRGAN) was trained to enlarge"
    " images",
    "supervised": "A denoising network was trained on clean images to which noise was"
    " added during training",
}

# What follows "images": by role.
IN_WORDS = {
    INDEPENDENT: "neither trained on nor used to choose the checkpoint",
    SELECTION: "held out from training but used to choose the checkpoint",
    TRAINING: "trained on",
    UNKNOWN: "whose use in training is not known",
}


def citations(method: str) -> list[str]:
    """Returns what to cite for a method and its evaluation, in the order of `[n]`."""
    names = (*_OF_METHOD[method], "adam", "ssim", "frc", "wiener", "jax", "flax")
    return [CITATIONS[name] for name in names]


def parameters(stored: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns every parameter of a run with its value, as flags."""
    return [
        (f"--{name}", "default" if value == "" else str(value))
        for section, values in stored.items()
        if isinstance(values, Mapping) and section != "simulation"
        for name, value in values.items()
    ]


def methods(
    generator: Generator, workdir: str, images: Images, seen: Seen, study: Study
) -> str:
    """Returns a paragraph for a methods section, with every parameter and version."""
    stored = generator.stored
    method, config = stored["method"], stored["config"]
    starts = Workdir(workdir).read_json("env.json")["starts"]
    own = len(_OF_METHOD[method])
    numbers = ",".join(str(i + 1) for i in range(own))
    versions = ", ".join(f"{k} {v}" for k, v in starts[-1]["packages"].items())
    flags = "; ".join(f"{flag[2:]} {value}" for flag, value in parameters(stored))
    sentences = [
        f"{_WHAT[method]} [{numbers}]{_trained_on(seen)} with Adam [{own + 1}], in"
        f" batches of {config['batch_size']} random crops of {config['crop_size']} x"
        f" {config['crop_size']} pixels.",
        f"Source values from {range_text(generator.source_range)} and target values"
        f" from {range_text(generator.target_range)} were mapped linearly to -1 to 1.",
        f"The weights of step {generator.chosen} were used, the best of those kept by"
        f" {stored['run']['best_metric']} on images held out from training"
        if seen.held
        else f"The weights of step {generator.chosen} were used",
    ]
    sentences[-1] += f"; {len(generator.variables)} checkpoints were compared."
    counts = ", ".join(
        f"{len(images.having(role))} {IN_WORDS[role]}"
        for role in IN_WORDS
        if images.having(role)
    )
    sentences += [
        f"Quality was assessed on {len(images)} image pairs ({counts}) in the range -1"
        " to 1 by peak signal-to-noise ratio (peak 2), structural similarity"
        f" [{own + 2}] (Gaussian window of 11 pixels, sigma 1.5 pixels, K1 0.01, K2"
        " 0.03; mean over all whole windows) and root mean squared error over the"
        " range of the target (NRMSE), each before and after the least-squares linear"
        " matching of brightness and contrast to the target, and by Fourier ring"
        f" correlation [{own + 3}].",
    ]
    if study.fitted_on:
        sentences.append(
            f"The best linear filter [{own + 4}] fitted on {study.fitted_on} served"
            " as a baseline."
        )
    revision = starts[-1].get("revision")
    sentences += [
        f"Training used jaxgan {starts[-1]['jaxgan']}"
        + (f" (revision {revision})" if revision else "")
        + f" on JAX [{own + 5}] and Flax [{own + 6}] with Python {starts[-1]['python']}"
        f" ({versions}) on {_devices(starts[-1]['devices'])}; evaluation used jaxgan"
        f" {jaxgan.__version__} with Python {platform.python_version()}.",
        f"All parameters: {flags}.",
    ]
    return " ".join(sentences)


def _trained_on(seen: Seen) -> str:
    if not seen.train:
        return ""
    counts = " and ".join(str(len(side)) for side in seen.train)
    if seen.paired:
        return f" on {len(seen.train[0])} image pairs"
    return f" on {counts} images"


def range_text(range_: Range) -> str:
    """Returns the values of each channel that become -1 and 1."""
    return " and ".join(
        f"{low:g} to {high:g}"
        for low, high in zip(range_.low, range_.high, strict=True)
    )


def _devices(names: Sequence[str]) -> str:
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
