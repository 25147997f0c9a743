#!/bin/sh
# Everything to measure on one GPU, in under 20 minutes; needs PyTorch.
# Usage: sh experiments/benchmark/gpu.sh OUTPUT
# REDUCED=1 runs every command with small networks, so as to try it on a CPU.
output=$1
mkdir -p "$output"
if [ -n "$REDUCED" ]; then
  size=64 small=32 batches=1,2 one=2 search=4 dtypes=float32 calls="1 2"
  few="--widths=4 --windows=2 --seconds=0.1" epochs=--steps=8
  train="--crop_size=64 --width=4" peers="torch"
else
  size=256 small=512 batches=1,16,64 one=36 search=10 dtypes=float32,bfloat16
  calls="1 16" few="--windows=5 --seconds=1" epochs=--steps=69750
  train="" peers="torch torch-compile"
fi
bench() {
  name=$1
  shift
  date +%T
  python -m jaxgan.experiments.benchmark --output="$output/$name" $few "$@"
}
# 1. Devices, donation and the scan behave as on a CPU.
python -m pytest -q tests/training/test_parallel.py tests/test_convolution.py \
  > "$output/tests.txt" 2>&1
tail -1 "$output/tests.txt"
# 2. pix2pix at every batch, dtype and peer.
for k in $calls; do
  for peer in $peers; do
    bench "pix2pix_k${k}_$peer" --method=pix2pix --sizes=$size --batches=$batches \
      --dtypes=$dtypes --steps_per_call=$k --peer=$peer
  done
done
# 3. The others.
bench cyclegan --method=cyclegan --sizes=$size --batches=1 --dtypes=$dtypes --peer=torch
bench srgan --method=srgan --sizes=96 --batches=16 --dtypes=$dtypes --peer=torch
bench dcgan --method=dcgan --sizes=$small --batches=$one --dtypes=$dtypes --peer=torch
bench search --method=search --sizes=$small --batches=$search --peer=torch
# 4. The whole training of 69,750 steps at batch 1, on simulated holograms.
date +%T
time python -m jaxgan.experiments.pix2pix --workdir="$output/training" $train $epochs \
  --batch_size=1 --dtype=bfloat16 --profile_steps=4:6 --checkpoint_every=100000 \
  --eval_every=100000 --sample_every=100000
date +%T
python -m jaxgan.experiments.cost_curves --output="$output/cost_curves.png" \
  --results="$(ls -d "$output"/*/ | while read d; do
    [ -f "$d/benchmark.json" ] && printf '%s,' "$d"; done)"
