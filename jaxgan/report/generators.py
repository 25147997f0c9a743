"""The generator of a workdir at each of the checkpoints that the run kept."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgan import predict
from jaxgan.data.normalise import Range
from jaxgan.errors import UserError
from jaxgan.training import reader, workdir


class Generator(NamedTuple):
    """What a run trained, ready to be applied with the weights of any checkpoint."""

    stored: Mapping[str, Any]  # the workdir's config.json
    source_range: Range
    target_range: Range
    scale: int  # of the result's height and width over the image's
    variables: Mapping[int, Any]  # by step, oldest first
    chosen: int  # the step that `predict` uses
    damaged: tuple[str, ...]  # what is wrong with the checkpoints that were left out
    translate: Callable[[Any, np.ndarray], np.ndarray]  # as of `make_translate`


def load(path: str) -> Generator:
    """Loads every kept checkpoint of a workdir.

    Raises `UserError` if its generator does not translate images, or none is sound.
    """
    trained = predict.read_trained(path)
    generate = functools.partial(trained.method.generate, trained.gen)
    variables, damaged = _read_all(path)
    return Generator(
        trained.stored,
        trained.source_range,
        trained.target_range,
        getattr(trained.config, "scale", 1),
        variables,
        trained.step,
        damaged,
        predict.make_translate(
            generate, trained.source_range, multiple=trained.multiple
        ),
    )


def _read_all(path: str) -> tuple[dict[int, Any], tuple[str, ...]]:
    variables, damaged = {}, []
    for step in reader.steps(workdir.Workdir(path).checkpoints):
        try:
            variables[step], _ = predict.read_generator(path, step)
        except UserError as error:
            damaged += error.problems
    return variables, tuple(damaged)
