"""Ten kinds of damage to a file of another library, by name; each writes into a folder and returns what to load."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FILES = Path(__file__).parent / "files"
SAELENS = FILES / "saelens/topk"
DL = FILES / "dictionary_learning"


def copied(source, folder):
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)
    return folder


def saelens(folder, change=None, **config):
    copied(SAELENS, folder)
    tensors = load_file(folder / "sae_weights.safetensors")
    if change is not None:
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    said = json.loads((folder / "cfg.json").read_text()) | config
    (folder / "cfg.json").write_text(json.dumps(said))
    return folder


def dictionary_learning(folder, kind="BatchTopKSAE", change=None):
    copied(DL / kind, folder)
    tensors = torch.load(folder / "ae.pt", weights_only=True)
    if change is not None:
        change(tensors)
        torch.save(tensors, folder / "ae.pt")
    return folder


class Harm:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return print, ("code of the file ran",)


def _swapped(tensors):
    tensors["W_enc"] = tensors["W_enc"].T


def _missing(tensors):
    del tensors["b_enc"]


def _nan(tensors):
    tensors["W_dec"][0, 0] = torch.nan


def _unset(tensors):
    tensors["threshold"] = torch.tensor(-1.0)


def _half(tensors):
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


def truncated(folder):
    path = saelens(folder) / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return folder


def bomb(folder):
    header = json.dumps({"W_enc": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    (saelens(folder) / "sae_weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def code(folder):
    torch.save({"encoder.weight": Harm()}, dictionary_learning(folder) / "ae.pt")
    return folder


def two(folder):
    saelens(folder)
    return dictionary_learning(folder)


DAMAGES = {
    "axes swapped": lambda folder: saelens(folder, _swapped),
    "a key is missing": lambda folder: saelens(folder, _missing),
    "k that the weights cannot have": lambda folder: saelens(folder, k=1000),
    "NaN": lambda folder: saelens(folder, _nan),
    "cut off": truncated,
    "a header that promises more than the file holds": bomb,
    "a pickle with code in it": code,
    "two formats in one folder": two,
    "a threshold that was never set": lambda folder: dictionary_learning(folder, change=_unset),
    "half precision": lambda folder: saelens(folder, _half),
}
