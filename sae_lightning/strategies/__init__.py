"""How the SAEs of a run lie on several devices: Lightning strategies, by the names that `trainer.strategy` takes."""

from lightning.pytorch.strategies import StrategyRegistry

from sae_lightning.strategies.latents import LatentsStrategy
from sae_lightning.strategies.members import MembersStrategy

for strategy, what in (
    (MembersStrategy, "the members of a SanityPanel on different devices"),
    (LatentsStrategy, "the latents of each SAE on different devices"),
):
    if strategy.name not in StrategyRegistry:
        StrategyRegistry.register(strategy.name, strategy, description=what)

__all__ = ["LatentsStrategy", "MembersStrategy"]
