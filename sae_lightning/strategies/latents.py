"""`LatentsStrategy`: the latents of each SAE on different ranks, for a dictionary that is too large for one device.

A rank has the rows of `W_dec` and the columns of `W_enc` of its latents, with their gradients and optimizer states. All
ranks train on the same batch, that of the first one. A step exchanges candidates for the selection and one
reconstruction of the batch, where averaging gradients would move about twice all trained parameters (`latent_mesh.py`).

Checkpoints are those of one process: they are put together on the first rank, and load on any number of ranks, with
this strategy or without.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, device
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer
from typing_extensions import override

from sae_lightning.distributed import MESH, use_mesh
from sae_lightning.latent_mesh import LATENTS
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.splitting import Dealt, dealt_out


class LatentsStrategy(ModelParallelStrategy):
    """Deal the latents of each SAE that is trained out over all ranks.

    Every rank reads the same data, and `data.batch_size` is that of the run. References and controls stay whole.

    Args:
        timeout: time after which a rank that waits for another one gives up.
    """

    name = "latents"

    def __init__(self, timeout: timedelta | None = default_pg_timeout) -> None:
        super().__init__(data_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    @override
    def setup_environment(self) -> None:
        if not isinstance(self.lightning_module, SAEModule):
            raise ValueError(
                f"trainer.strategy={self.name} deals out the latents of SAEs, and "
                f"{type(self.lightning_module).__name__} has none: take trainer.strategy=ddp"
            )
        n_ranks = self.num_nodes * self.num_processes
        self._tensor_parallel_size = n_ranks
        super().setup_environment()
        mesh = init_device_mesh(self.root_device.type, (1, 1, n_ranks), mesh_dim_names=(*MESH, LATENTS))
        self._device_mesh = self.lightning_module._device_mesh = mesh
        use_mesh(mesh)

    @property
    @override
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": 1, "rank": 0}

    @override
    def batch_to_device(self, batch: Any, device: device | None = None, dataloader_idx: int = 0) -> Any:
        """Return the batch of the first rank: what two ranks compute of the same text may differ in the last bits."""

        def of_first(tensor: Tensor) -> Tensor:
            tensor = tensor.contiguous()
            dist.broadcast(tensor, 0)
            return tensor

        return apply_to_collection(super().batch_to_device(batch, device, dataloader_idx), Tensor, of_first)

    @override
    def teardown(self) -> None:
        super().teardown()
        use_mesh(None)

    # Checkpoints
    # ----------------------------------------------------------------------------------------------------------------

    @property
    @override
    def restore_checkpoint_after_setup(self) -> bool:
        return False  # what a checkpoint is of is compared before an optimizer is made

    @property
    @override
    def lightning_restore_optimizer(self) -> bool:
        return True

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return all tensors on the first rank; a collective call."""
        module = self._module()
        latents = dealt_out(module)
        return {name: _whole(tensor, latents.get(name)) for name, tensor in module.state_dict().items()}

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state of all parameters on the first rank; a collective call."""
        return self._in_each_state(_whole, optimizer, Strategy.optimizer_state(self, optimizer))

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Return a checkpoint with the latents of this rank; of other sizes as it is, which the module then refuses."""
        checkpoint = Strategy.load_checkpoint(self, checkpoint_path, weights_only)
        latents = dealt_out(self._module())
        checkpoint["state_dict"] = {
            name: _cut(tensor, latents.get(name)) for name, tensor in checkpoint["state_dict"].items()
        }
        return checkpoint

    @override
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        Strategy.load_model_state_dict(self, checkpoint, strict)

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load of the state of each parameter that of this rank's latents."""
        states = zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        own = [self._in_each_state(_cut, optimizer, state) for optimizer, state in states]
        Strategy.load_optimizer_state_dict(self, {"optimizer_states": own})

    def _module(self) -> SAEModule:
        assert isinstance(self.lightning_module, SAEModule)
        return self.lightning_module

    def _in_each_state(
        self, change: Callable[[Tensor, Dealt | None], Tensor], optimizer: Optimizer, state: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the state of an optimizer with each tensor changed according to how its parameter is dealt out."""
        module = self._module()
        latents = dealt_out(module)
        names = {parameter: name for name, parameter in module.named_parameters()}
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        changed = {
            number: {
                name: change(value, latents.get(names[parameters[number]]))
                if isinstance(value, Tensor) and value.dim()
                else value
                for name, value in of_parameter.items()
            }
            for number, of_parameter in state["state"].items()
        }
        return {**state, "state": changed}


def _whole(tensor: Tensor, dealt: Dealt | None) -> Tensor:
    return tensor if dealt is None else dealt[0].whole(tensor, dealt[1])


def _cut(tensor: Tensor, dealt: Dealt | None) -> Tensor:
    if dealt is None or tensor.shape[dealt[1]] != sum(dealt[0].groups):
        return tensor
    return dealt[0].cut(tensor, dealt[1])
