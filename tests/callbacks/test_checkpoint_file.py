"""The head of a checkpoint is read before a run is built around it, and a wrong file is one message."""

import pytest
import torch
from training import D_IN, SaveAt, fit

from sae_lightning.callbacks.checkpoint_file import read_checkpoint
from sae_lightning.saes import TopK

GOOD = {"state_dict": {"W_dec": torch.zeros(2, 2)}, "loops": {}, "global_step": 3, "pytorch-lightning_version": "2.6"}


def test_a_checkpoint_of_a_fit_is_read(tmp_path):
    sae = TopK(D_IN, d_sae=16, k=2)
    fit(sae, tmp_path, n=3, callbacks=[SaveAt(3, tmp_path / "3.ckpt")])
    checkpoint = read_checkpoint(tmp_path / "3.ckpt")
    assert checkpoint["global_step"] == 3
    assert torch.equal(checkpoint["state_dict"]["W_dec"], sae.W_dec)


def cut_off(path):
    torch.save(GOOD, path)
    path.write_bytes(path.read_bytes()[:300])


class Unsafe:
    def __reduce__(self):
        return print, ("code of a stranger",)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (cut_off, r"this file of 300 bytes is no checkpoint, or is cut off or damaged \(\w+\); expected a checkpoint"),
        (lambda path: path.write_bytes(b""), "this file of 0 bytes is no checkpoint"),
        (lambda path: path.write_text("name: mine"), r"is no checkpoint.* An earlier one of the run may lie beside it"),
        (lambda path: torch.save(GOOD | {"extra": Unsafe()}, path), r"damaged \(UnpicklingError\)"),
        (lambda path: torch.save([1], path), "it holds list; expected a checkpoint of `sae fit`"),
        (lambda path: torch.save({"W": torch.zeros(1)}, path), "it holds W, and lacks state_dict, loops, global_step"),
        (
            lambda path: torch.save(GOOD | {"state_dict": {"encoder.weight": torch.zeros(1)}}, path),
            "a checkpoint of another model, with encoder.weight",
        ),
    ],
    ids=["cut off", "empty", "text", "pickled code", "a list", "weights alone", "another model"],
)
def test_what_is_no_checkpoint_is_named(write, message, tmp_path, capsys):
    path = tmp_path / "some.ckpt"
    write(path)
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(f"ckpt_path={path}: ")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == "", "no code of the file was run"
