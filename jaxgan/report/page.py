"""Writes a report: index.html, one file that needs no network, and qc.csv."""

import csv
import datetime
import importlib.resources
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jaxgan
from jaxgan.errors import UserError
from jaxgan.report import caveats, figures, measure, prose
from jaxgan.report.generators import Generator
from jaxgan.report.images import ROLES, Images, Seen
from jaxgan.report.study import FILTER, INPUT, PREDICTION, Example, Study
from jaxgan.training.workdir import replace_file

_LABELS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "nrmse": "NRMSE"}


def write(
    folder: Path,
    workdir: str,
    generator: Generator,
    images: Images,
    seen: Seen,
    study: Study,
) -> list[str]:
    """Writes index.html, methods.txt and qc.csv; returns the warnings in it."""
    warnings = caveats.warnings(generator, images, seen, study)
    method = generator.stored["method"]
    citations = prose.citations(method)
    methods = prose.methods(generator, workdir, images, seen, study)
    listed = "\n".join(f"[{i}] {text}" for i, text in enumerate(citations, 1))
    content = {
        "method": method,
        "workdir": Path(workdir).resolve().name,
        "date": datetime.date.today().isoformat(),
        "version": jaxgan.__version__,
        "chosen": generator.chosen,
        "checkpoints": list(generator.variables),
        "role": prose.IN_WORDS[study.role],
        "enlarged": generator.scale > 1,
        "warnings": warnings,
        "groups": [_group(generator, images, study, role) for role in ROLES],
        "columns": [*_LABELS.values(), *(f"{x}, matched" for x in _LABELS.values())],
        "examples": [_shown(example) for example in study.examples],
        "curves": _curves(generator, images, study),
        "power": figures.power_curves(study.spectra),
        "correlation": figures.correlation_curves(study.spectra),
        "limits": _limits(study),
        "fitted_on": study.fitted_on,
        "rows": _chosen_rows(generator, study),
        "methods": f"{methods}\n\n{listed}",
        "parameters": prose.parameters(generator.stored),
    }
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "qc.csv", table(study, chosen=generator.chosen))
    replace_file(folder / "methods.txt", f"{methods}\n\n{listed}\n")
    replace_file(folder / "index.html", render(content))
    return warnings


def check_installed() -> None:
    """Raises `UserError` if what fills the template is not installed."""
    if importlib.util.find_spec("jinja2") is None:
        raise UserError("a report needs jinja2: pip install 'jaxgan[report]'")


def render(content: dict[str, Any]) -> str:
    """Fills the template; whatever names hold is text to it, never markup."""
    import jinja2

    template = importlib.resources.files(__package__) / "template.html"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.from_string(template.read_text("utf-8")).render(content)


def table(study: Study, *, chosen: int) -> str:
    """Returns qc.csv: a line for each image and each input, filter or checkpoint."""
    names = (*measure.SCORES, *measure.MATCHED)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "role", "what", "checkpoint", "used", *names])
    for row in study.rows:
        step = "" if row.checkpoint is None else row.checkpoint
        used = "" if row.checkpoint is None else int(row.checkpoint == chosen)
        values = [f"{row.scores[name]:.6g}" for name in names]
        writer.writerow([row.image, row.role, row.kind, step, used, *values])
    return text.getvalue()


def _group(
    generator: Generator, images: Images, study: Study, role: str
) -> dict[str, Any]:
    """Returns a role's table: a line each for input, filter and prediction."""
    kinds = ((INPUT, None), (FILTER, None), (PREDICTION, generator.chosen))
    means = {kind: study.mean(kind, role, step) for kind, step in kinds}
    return {
        "role": prose.IN_WORDS[role],
        "count": len(images.having(role)),
        "lines": [
            (kind, [f"{mean:.4g} ± {spread:.2g}" for mean, spread in values.values()])
            for kind, values in means.items()
            if values
        ],
    }


def _shown(example: Example) -> dict[str, Any]:
    source, prediction, target = (
        figures.crop(x) for x in (example.source, example.prediction, example.target)
    )
    error = prediction - target
    similarity = measure.ssim_map(prediction, target)
    whole = example.target.shape[:2]
    return {
        "title": example.title,
        "name": example.name,
        "cropped": target.shape[:2] != whole,
        "size": f"{whole[0]} x {whole[1]}",
        "width": target.shape[1],
        "scores": [
            f"{label} {example.scores[name]:.4g}" for name, label in _LABELS.items()
        ],
        "layers": [figures.picture(x) for x in (source, prediction, target)],
        "error": figures.coloured(error, low=-0.5, high=0.5, palette="RdBu_r"),
        "ssim": figures.coloured(similarity, low=0, high=1, palette="viridis"),
    }


def _curves(generator: Generator, images: Images, study: Study) -> list[str]:
    steps = list(generator.variables)
    roles = [role for role in ROLES if images.having(role)]
    drawn = []
    for name, label in _LABELS.items():
        curves = {
            role: (steps, [study.mean(PREDICTION, role, s)[name][0] for s in steps])
            for role in roles
        }
        levels = {
            kind: means[name][0]
            for kind in (INPUT, FILTER)
            if (means := study.mean(kind, study.role, None))
        }
        drawn.append(
            figures.checkpoint_curves(
                curves, levels, chosen=generator.chosen, label=label
            )
        )
    return drawn


def _limits(study: Study) -> list[str]:
    """Says up to where images share structure with the target."""
    spectra = study.spectra
    texts = []
    for name, values in spectra.correlation.items():
        limit = measure.common_until(spectra.frequencies, values)
        texts.append(
            f"{name}: correlated with the target at all frequencies"
            if limit is None
            else f"{name}: correlated with the target up to {limit:.3f} cycles per"
            " pixel; finer detail has little in common with it"
        )
    return texts


def _chosen_rows(generator: Generator, study: Study) -> Sequence[dict[str, Any]]:
    """Returns the images' own scores with the chosen checkpoint, the worst first."""
    rows = [row for row in study.rows if row.checkpoint == generator.chosen]
    ordered = sorted(rows, key=lambda row: np.nan_to_num(row.scores["ssim"]))
    return [
        {
            "image": row.image,
            "role": row.role,
            "values": [f"{value:.4g}" for value in row.scores.values()],
        }
        for row in ordered
    ]
