import sae_lightning  # noqa: F401  (before anything that imports torchvision, see sae_lightning/_torchvision.py)
