"""Sees which tensors operations take memory for; with meta tensors at full size, without computing anything."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Temporaries(TorchDispatchMode):
    """Numbers of the entries of the tensors that are made; a view and what is changed in place take no memory."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        given = {storage for storage, _ in dense(args, kwargs)}
        self.sizes += [numel for storage, numel in dense(result) if storage not in given]
        return result


def dense(*some):
    leaves = [one for one in tree_leaves(some) if isinstance(one, torch.Tensor) and one.layout == torch.strided]
    return [(one.untyped_storage()._cdata, one.numel()) for one in leaves]
