"""The machinery around a train step: devices, checkpoints, logs, the loop."""
