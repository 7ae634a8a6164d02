"""How the SAEs of a run lie on several devices: Lightning strategies, by the names that `trainer.strategy` takes."""

from lightning.pytorch.strategies import StrategyRegistry

from sae_lightning.strategies.members import MembersStrategy

if MembersStrategy.name not in StrategyRegistry:
    StrategyRegistry.register(
        MembersStrategy.name, MembersStrategy, description="the members of a SanityPanel on different devices"
    )

__all__ = ["MembersStrategy"]
