"""The toy microscopes: images whose truth is known, for trying out and for tests."""

from jaxgan.data.simulate.holography import Hologram, hologram, holograms, record
from jaxgan.data.simulate.optics import Optics, blur, propagate
from jaxgan.data.simulate.retrieval import back_propagate, retrieve
from jaxgan.data.simulate.specimens import MAX_PHASE, Specimen, draw_specimen

__all__ = [
    "MAX_PHASE",
    "Hologram",
    "Optics",
    "Specimen",
    "back_propagate",
    "blur",
    "draw_specimen",
    "hologram",
    "holograms",
    "propagate",
    "record",
    "retrieve",
]
