"""What a reader of a report must know before trusting it, in plain words."""

from collections.abc import Iterator

from jaxgan.data.imagesets import ImageSet
from jaxgan.report import measure
from jaxgan.report.generators import Generator
from jaxgan.report.images import SELECTION, TRAINING, UNKNOWN, Images, Seen
from jaxgan.report.prose import range_text
from jaxgan.report.study import FILTER, INPUT, PREDICTION, Study

_OUTSIDE = 0.01  # of the values: more is worth a warning; percentiles leave .002
_PIXEL_SIZE = 0.05  # relative difference
_FEW = 5


def warnings(
    generator: Generator, images: Images, seen: Seen, study: Study
) -> list[str]:
    """Returns what a reader of the results must know, the gravest first."""
    return [
        "What a network generates is a guess from its training images, not a"
        " measurement. Detail that the input does not hold can look perfectly sharp and"
        " be wrong, also where the scores are high. Do not count, measure or diagnose"
        " on generated images without checking against real ones.",
        *_of_roles(images, seen, study),
        *_of_baselines(generator, study),
        *_of_ranges(generator, study),
        *pixel_size_problems(images, seen),
        *_of_checkpoints(generator, study),
    ]


def _of_roles(images: Images, seen: Seen, study: Study) -> Iterator[str]:
    texts = {
        SELECTION: "No image here is independent: all that were not trained on helped"
        " to choose the checkpoint, so the scores are somewhat too good. Evaluate on"
        " images that the run never saw.",
        TRAINING: "The network was trained on every one of these images. The scores say"
        " nothing about new ones; evaluate on images that the run never saw.",
        UNKNOWN: "Whether the run trained on these images cannot be told"
        f" ({seen.problem}). If it did, the scores are too good.",
    }
    if study.role in texts:
        yield texts[study.role]
    count = len(images.having(study.role))
    if count < _FEW:
        yield (
            f"The summary rests on {count} image(s), too few to say how much scores"
            " vary from image to image."
        )


def _of_baselines(generator: Generator, study: Study) -> Iterator[str]:
    own = study.mean(PREDICTION, study.role, generator.chosen)
    for kind, meaning in (
        (INPUT, "the network does not bring images closer to their targets"),
        (FILTER, "a plain convolution does as well, so a network may not be needed"),
    ):
        other = study.mean(kind, study.role, None)
        lost = [
            f"{name.upper()} {own[name][0]:.4g} against {other[name][0]:.4g}"
            for name, higher in measure.HIGHER_IS_BETTER.items()
            if other and (own[name][0] > other[name][0]) != higher
        ]
        if lost:
            yield (
                f"The network is not better than the {kind} by {', '.join(lost)}:"
                f" {meaning}."
            )


def _of_ranges(generator: Generator, study: Study) -> Iterator[str]:
    for what, part, range_, meaning in (
        (
            "inputs",
            study.source_outside,
            generator.source_range,
            "The network has hardly seen such values; check exposure, bit depth and"
            " background.",
        ),
        (
            "targets",
            study.target_outside,
            generator.target_range,
            "The network cannot produce such values, and scores treat them as clipped.",
        ),
    ):
        if part > _OUTSIDE:
            yield (
                f"{100 * part:.1f} % of the values of the {what} lie outside the"
                f" intensities of training, {range_text(range_)}. {meaning}"
            )


def pixel_size_problems(images: Images, seen: Seen) -> Iterator[str]:
    """Yields a warning for each side whose pixels are not those of training."""
    trained = dict(
        zip(("source", "target")[: len(seen.train)], seen.train, strict=True)
    )
    for role, side in trained.items():
        if not seen.paired and len(trained) == 1:
            role = "target"  # the one side that denoisers and such learn from
        here, there = _pixel_sizes(getattr(images, role)), _pixel_sizes(side)
        if not here or not there or {u for _, u in here} != {u for _, u in there}:
            continue
        size, unit = here[0]
        odd = [x for x, _ in here if abs(x / there[0][0] - 1) > _PIXEL_SIZE]
        if odd:
            yield (
                f"Pixels of the {role} images are {odd[0]:.4g} {unit} wide, in training"
                f" {there[0][0]:.4g} {unit}. The network knows structures by their size"
                " in pixels: resample the images to the pixel size of training."
            )


def _pixel_sizes(images: ImageSet) -> list[tuple[float, str]]:
    """Returns the width of a pixel and its unit, for each image that says it."""
    metas = (images.meta(index) for index in range(len(images)))
    known = [meta for meta in metas if meta is not None and meta.pixel_size]
    return [(meta.pixel_size[1], _unit(meta.unit)) for meta in known]


def _unit(text: str) -> str:
    micro = ("um", "µm", "μm", "micron", "microns", r"\u00B5m")
    return "µm" if text in micro else text


def _of_checkpoints(generator: Generator, study: Study) -> Iterator[str]:
    for problem in generator.damaged:
        yield f"A checkpoint was left out: {problem}."
    steps = list(generator.variables)
    if len(steps) > 1:
        best = max(
            steps, key=lambda step: study.mean(PREDICTION, study.role, step)["ssim"][0]
        )
        if best == steps[-1]:
            yield (
                "The last checkpoint is the best of those kept: scores may still have"
                " been rising when training ended, and a longer run may help."
            )
