"""`MembersStrategy`: the members of a panel on different ranks, each trained on the batches of all.

Members share no parameter, so no gradient need leave the rank of its member. What ranks exchange is the batch: of W
ranks each reads a W-th of it, and one all-gather gives all of them all of it. A step then moves
`(W - 1) / W * batch * d_in` numbers, where averaging gradients moves about twice all trained parameters.

The ranks are a mesh ("members", "data"). Ranks that differ in "members" have different SAEs; ranks that differ in
"data" have the same, split the batch between them and average gradients as DDP does.
"""

import uuid
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from typing_extensions import override

from sae_lightning.checkpoint_parts import PARTS, part_folder, remove_parts
from sae_lightning.checks import check_whole
from sae_lightning.distributed import MESH, use_mesh
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes.checkpointing import LOSS_CURVE
from sae_lightning.saes.data import ActivationData
from sae_lightning.trainer import any_datamodule_of
from sae_lightning.whole_files import whole_file

K = TypeVar("K", bound=Hashable)


class MembersStrategy(DDPStrategy):
    """Put the members of a SanityPanel on different ranks, largest first.

    Every rank reads its own `data.batch_size` activations for a step, and each member is trained on those of all ranks,
    as in a run on one process that reads as many. Validations are read by each group of ranks with the same members.
    Checkpoints load on any other number of ranks, and on one process without this strategy.

    Args:
        data: ranks that share each member and split the batch between them; the number of ranks is a multiple. 1 as
            long as there are members for all ranks.
        **kwargs: of DDPStrategy.
    """

    name = "members"
    device_mesh: DeviceMesh

    def __init__(self, data: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole(1, data=data, hint="ranks that share each member")
        self.data = data

    # Where members live
    # ----------------------------------------------------------------------------------------------------------------

    @override
    def setup_environment(self) -> None:
        super().setup_environment()
        panel = self._panel()
        if self.world_size % self.data:
            raise ValueError(
                f"trainer.strategy.data={self.data}: expected a number that divides the {self.world_size} ranks"
            )
        n_groups = self.world_size // self.data
        n_units = len(panel.all_trained_members) or len(panel.references)
        if n_groups > n_units:
            raise ValueError(
                f"trainer.strategy={self.name}: {self.world_size} ranks, and the panel has {n_units} "
                f"{'member' if n_units == 1 else 'members'}: take {n_units * self.data} ranks at most, or let "
                f"several share each, with trainer.strategy.data={-(-self.world_size // n_units)} or more"
            )
        self.device_mesh = self._mesh(n_groups)
        use_mesh(self.device_mesh)
        group = self.device_mesh.get_local_rank(MESH[0])
        panel.place([member for member, own in place_members(panel, n_groups).items() if own == group])

    def _mesh(self, n_groups: int) -> DeviceMesh:
        device = self.root_device.type
        backends: dict[Any, Any] = dict.fromkeys(MESH, self._process_group_backend)
        return init_device_mesh(device, (n_groups, self.data), mesh_dim_names=MESH, backend_override=backends)

    def _panel(self) -> SanityPanel:
        module = self.lightning_module
        if not isinstance(module, SanityPanel):
            raise ValueError(
                f"trainer.strategy={self.name} puts the members of a SanityPanel or SAEFamily on different devices, "
                f"and {type(module).__name__} is a lone SAE: take trainer.strategy=ddp"
            )
        if not isinstance(any_datamodule_of(module.trainer), ActivationData):
            raise ValueError(
                f"trainer.strategy={self.name} exchanges batches between ranks, which a plain loader or another "
                "datamodule does not: take one of sae_lightning.datamodules, or trainer.strategy=ddp"
            )
        return module

    @override
    def setup(self, trainer: Trainer) -> None:
        # DDPStrategy would give every rank the parameters of the first.
        Strategy.setup(self, trainer)

    @override
    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:  # type: ignore[override]
        assert self.lightning_module is not None
        if self.data == 1 or self.lightning_module.trainer.state.fn != TrainerFn.FITTING:
            return model
        self._ddp_kwargs["process_group"] = self.device_mesh.get_group(MESH[1])
        return super()._setup_model(model)

    @override
    def _get_process_group_backend(self) -> str:
        backend = super()._get_process_group_backend()
        return "cpu:gloo,cuda:nccl" if backend == "nccl" else backend  # plain values need not go through a GPU

    @override
    def teardown(self) -> None:
        super().teardown()
        use_mesh(None)

    # Checkpoints
    # ----------------------------------------------------------------------------------------------------------------

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write what this rank alone knows as a part, and on the first rank what all know."""
        path = Path(filepath)
        token = self.broadcast(uuid.uuid4().hex[:8])
        with whole_file(part_folder(path, token) / f"{self.global_rank}.pt") as file:
            torch.save(self._take_part(checkpoint), file)
        self.barrier()  # the file is written when all parts are
        names = [f"{rank}.pt" for rank in range(self.world_size)]
        checkpoint[PARTS] |= {"token": token, "names": names}
        super().save_checkpoint(checkpoint, path, storage_options)
        if self.is_global_zero:
            remove_parts(path, but=token)

    def _take_part(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Move what this rank alone knows out of a checkpoint, and note in it what the parts are made of."""
        panel = self._panel()
        is_first = self.device_mesh.get_local_rank(MESH[1]) == 0  # of those with the same members
        part: dict[str, Any] = {"state_dict": {}, "optimizers": [], "losses": {}, "readers": {}}
        tensors = checkpoint.pop("state_dict")
        names = [name for group in panel.optimized.values() for name in group]
        own = [name for group in panel.optimized.values() for name, one in group.items() if not one.is_meta]
        states = checkpoint.get("optimizer_states", [])
        if is_first:
            part["state_dict"] = tensors
            part["optimizers"] = [{own[place]: one for place, one in state["state"].items()} for state in states]
        for state in states:
            del state["state"]
            groups = zip(state["param_groups"], panel.optimized.values(), strict=True)
            for group, of_all in groups:
                group["params"] = [names.index(name) for name in of_all]
        losses = checkpoint.get(LOSS_CURVE)
        if losses is not None:
            columns = dict(zip(map(str, panel.trained_members), losses.pop("log_sums").cpu().unbind(1), strict=True))
            part["losses"] = {member: column.clone() for member, column in columns.items()}
        data = type(any_datamodule_of(panel.trainer)).__qualname__
        if data in checkpoint:
            part["readers"] = checkpoint[data]["ranks"]
            checkpoint[data]["ranks"] = []
        checkpoint[PARTS] = {
            "optimized": names,
            "losses": None if losses is None else [LOSS_CURVE, [str(one) for one in panel.all_trained_members]],
            "data": data if data in checkpoint else None,
        }
        return part

    @override
    def remove_checkpoint(self, filepath: Any) -> None:
        super().remove_checkpoint(filepath)
        if self.is_global_zero:
            remove_parts(Path(filepath))

    @override
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load the members of this rank."""
        panel = self._panel()
        here = {f"saes.{member}." for member in panel.trained_members}
        own = {name: one for name, one in checkpoint["state_dict"].items() if name.startswith(tuple(here))}
        panel.load_state_dict(own, strict=strict)

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the state of the parameters of this rank."""
        optimized = self._panel().optimized
        super().load_optimizer_state_dict(
            {"optimizer_states": [_own_state(state, optimized) for state in checkpoint["optimizer_states"]]}
        )


def _own_state(state: Mapping[str, Any], optimized: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Return the state of an optimizer over all members as that of one over those that have data here."""
    here = [one for group in optimized.values() for one in group.values()]
    places = {place: number for number, place in enumerate(i for i, one in enumerate(here) if not one.is_meta)}
    groups = [
        {**group, "params": [places[place] for place in group["params"] if place in places]}
        for group in state["param_groups"]
    ]
    own = {places[place]: _cloned(one) for place, one in state["state"].items() if place in places}
    return {"state": own, "param_groups": groups}


def _cloned(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state whose tensors are no longer in the file that they were read from."""
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}


def place_members(panel: SanityPanel, n_groups: int) -> dict[Member, int]:
    """Return in which group of ranks each trained member and each reference of a panel lives.

    Controls live where their reference is, and references of one name together.
    """
    sizes = {member: sae.d_in * sae.d_sae for member, sae in panel.all_trained_members.items()}
    loads = [0] * n_groups
    places = deal(sizes, loads)
    beside = {member: sae for member, sae in panel.all_members.items() if member not in sizes}
    of_references: dict[str, int] = {}
    for member, sae in beside.items():
        reference = panel.reference_of(member)
        of_references[reference] = of_references.get(reference, 0) + sae.d_in * sae.d_sae
    of_policies = deal(of_references, loads)
    return places | {member: of_policies[panel.reference_of(member)] for member in beside}


def deal(sizes: Mapping[K, int], loads: list[int]) -> dict[K, int]:
    """Give each thing, the largest first, to the group that has least.

    Args:
        sizes: of the things.
        loads: what each group has; changed in place.

    >>> deal({"x1": 1, "x2": 2, "x8": 8}, [0, 0])
    {'x8': 0, 'x2': 1, 'x1': 1}
    """
    groups: dict[K, int] = {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        groups[name] = min(range(len(loads)), key=lambda group: loads[group])
        loads[groups[name]] += sizes[name]
    return groups
