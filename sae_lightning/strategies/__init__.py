"""How the SAEs of a run lie on several devices: Lightning strategies, by the names that `trainer.strategy` takes."""

from lightning.pytorch.strategies import StrategyRegistry

from sae_lightning.strategies.latents import LatentsStrategy

if LatentsStrategy.name not in StrategyRegistry:
    StrategyRegistry.register(
        LatentsStrategy.name, LatentsStrategy, description="the latents of each SAE on different devices"
    )

__all__ = ["LatentsStrategy"]
