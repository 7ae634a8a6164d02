from sae_lightning.code import Code  # noqa: F401
