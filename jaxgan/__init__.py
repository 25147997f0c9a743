"""GANs for microscopy in JAX and Flax, built for accelerator throughput."""

__version__ = "0.1.0"
