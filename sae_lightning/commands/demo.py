"""``sae demo``: the sanity check on the pocket language model, which needs no network.

It is ``sae fit --config experiment/sanity_pocket_lm``, and takes the same options: ``sae demo --model.sae.k 64``.
"""

from sae_lightning.commands.fit import SAECLI


def main(args: list[str]) -> None:
    """Train the panel of the demo, with what else the arguments say."""
    SAECLI(["fit", "--config", "experiment/sanity_pocket_lm", *args[1:]])
