"""Activations on disk: sharded safetensors with a manifest, written by `sae cache` and read by `CachedActivations`."""
