"""``python -m sae_lightning`` and the command ``sae``."""

from sae_lightning.cli import main

if __name__ == "__main__":
    main()
