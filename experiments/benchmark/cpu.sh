#!/bin/sh
# The CPU tables of README.md: jaxgan and PyTorch in turn, in the same minutes.
# Usage: sh experiments/benchmark/cpu.sh OUTPUT [FLAG...]; needs PyTorch.
# One core each, by the process's own clock: taskset -c 0 before it, --clock=cpu
# --threads=1 behind it.
output=$1
shift
bench() {
  name=$1
  shift
  python -m jaxgan.experiments.benchmark --peer=torch --output="$output/$name" "$@"
}
bench pix2pix --method=pix2pix --sizes=256 --batches=1 "$@"
bench srgan --method=srgan --sizes=96 --batches=16 "$@"
bench search --method=search --sizes=64 --batches=10 "$@"
bench pix2pix4 --method=pix2pix --sizes=256 --batches=4 "$@"
bench cyclegan --method=cyclegan --sizes=256 --batches=1 "$@"
bench dcgan --method=dcgan --sizes=512 --batches=4 "$@"
