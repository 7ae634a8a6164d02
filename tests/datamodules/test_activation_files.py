"""What is particular about activations in files; the contract of all datamodules is in test_datamodules.py."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sae_lightning.datamodules import ActivationFiles
from sae_lightning.datamodules.row_files import RowFiles
from sae_lightning.saes import TopK
from sae_lightning.sources import GaussianMatched, RandomDirections, RandomRotation, ShuffledDimensions

N, D_IN = 200, 4


def rows(n=N, d_in=D_IN, seed=0):
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))


def data(paths, **kwargs):
    return ActivationFiles(str(paths), **{"batch_size": 8} | kwargs)


def everything(paths, **kwargs):
    files = RowFiles(str(paths), **kwargs)
    return files[torch.arange(len(files))]


def save_safetensors(x, path):
    save_file({"activations": x.clone()}, path)


def save_npy(x, path):
    np.save(path, x.numpy())


def save_npz(x, path):
    np.savez_compressed(path, acts=x.numpy(), ids=np.arange(len(x)))


def save_nested(x, path):
    torch.save({"layer": {"acts": x}, "ids": torch.arange(len(x)), "name": "a"}, path)


SAVERS = {"a.safetensors": save_safetensors, "a.npy": save_npy, "a.npz": save_npz, "a.pt": save_nested}
SAVERS |= {"a.pth": torch.save}
every_kind = pytest.mark.parametrize("name", SAVERS)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_every_kind_of_file_is_read_as_rows(tmp_path, name, dtype):
    x = rows().to(dtype)
    SAVERS[name](x.reshape(20, 10, D_IN), tmp_path / name)
    read = everything(tmp_path / name)
    assert read.dtype == torch.float32
    assert torch.equal(read, x.float())


def test_bfloat16_and_a_tensor_that_needs_gradients(tmp_path):
    x = rows().bfloat16().requires_grad_()
    torch.save(x, tmp_path / "a.pt")
    read = everything(tmp_path / "a.pt")
    assert torch.equal(read, x.detach().float())
    assert not read.requires_grad


def test_shards_are_one_list_of_rows_in_the_order_of_their_names(tmp_path):
    x = rows()
    for name, part in zip(("b.pt", "a.npy", "c.safetensors"), x.split([50, 90, 60]), strict=True):
        {"b.pt": torch.save, "a.npy": save_npy, "c.safetensors": save_safetensors}[name](part, tmp_path / name)
    (tmp_path / "README.md").write_text("of a model")
    in_order = torch.cat([x[50:140], x[:50], x[140:]])
    files = RowFiles(str(tmp_path))
    assert [path.name for path in files.files] == ["a.npy", "b.pt", "c.safetensors"]
    assert torch.equal(files[torch.tensor([199, 0, 89, 90, 139, 140, 0])], in_order[[199, 0, 89, 90, 139, 140, 0]])


def test_the_last_rows_are_held_out_in_one_piece(tmp_path):
    x = torch.arange(N)[:, None].expand(N, D_IN).float()
    torch.save(x.clone(), tmp_path / "a.pt")
    made = data(tmp_path / "a.pt", heldout_fraction=0.2)
    val = torch.cat(list(made.val_dataloader()))[:, 0]
    train = torch.cat(list(made.train_dataloader()))[:, 0]
    assert torch.equal(val, torch.arange(160.0, 200))
    assert torch.equal(train.sort().values, torch.arange(160.0))
    assert not torch.equal(train, torch.arange(160.0))


def test_an_epoch_of_more_rows_than_there_are_repeats_them_in_another_order(tmp_path, caplog):
    x = torch.arange(N)[:, None].expand(N, D_IN).float()
    torch.save(x.clone(), tmp_path / "a.pt")
    made = data(tmp_path / "a.pt", heldout_fraction=0.2, train_samples=320)
    with caplog.at_level("INFO"):
        seen = torch.cat(list(made.train_dataloader()))[:, 0].view(2, 160)
    assert torch.equal(seen.sort(1).values, torch.arange(160.0).expand(2, -1))
    assert not torch.equal(seen[0], seen[1])
    assert "the 160 training rows are read 2.0 times in an epoch" in caplog.text


def test_the_width_is_known_without_reading(tmp_path, monkeypatch):
    torch.save(rows(), tmp_path / "a.pt")
    monkeypatch.setattr(RowFiles, "__getitem__", lambda *args: pytest.fail("rows were read"))
    files = RowFiles(str(tmp_path / "a.pt"))
    assert (files.d_in, len(files)) == (D_IN, N)


def test_nulls_are_beside_the_rows(tmp_path):
    torch.save(rows() * 3 + 1, tmp_path / "a.pt")
    nulls = {"gaussian": GaussianMatched(), "shuffled": ShuffledDimensions()}
    nulls |= {"directions": RandomDirections(), "rotated": RandomRotation()}
    made = data(tmp_path / "a.pt", nulls=nulls, heldout_fraction=0.5)
    x = torch.cat(list(made.val_dataloader()))
    own, gaussian, shuffled, directions, rotated = x.split(D_IN, 1)
    assert torch.equal(own, everything(tmp_path / "a.pt")[100 : 100 + len(own)])
    assert torch.equal(shuffled.sort(0).values, own.sort(0).values)
    for other in (directions, rotated):
        torch.testing.assert_close(other.norm(dim=1), own.norm(dim=1))
    assert not torch.isin(gaussian, own).any()
    assert (gaussian.mean() - own.mean()).abs() < 0.5


def test_activations_are_known_by_their_content(tmp_path):
    """However they are spread over files; another file is other activations."""
    x = rows()
    torch.save(x, tmp_path / "whole.pt")
    (tmp_path / "shards").mkdir()
    for i, part in enumerate(x.split(70)):
        torch.save(part.clone(), tmp_path / f"shards/{i}.pt")
    torch.save(rows(seed=1), tmp_path / "other.pt")
    whole, shards, other = (
        data(tmp_path / name).describe_activations()[""] for name in ("whole.pt", "shards", "other.pt")
    )
    assert whole == shards
    assert whole["class"] == "ActivationFiles"
    assert whole["activations"] != other["activations"]


def test_of_an_sae_of_other_activations_it_is_said_that_nothing_is_known(tmp_path, capsys):
    torch.save(rows(), tmp_path / "a.pt")
    made = data(tmp_path / "a.pt", nulls={"gaussian": GaussianMatched()})
    sae = TopK(D_IN, k=1, d_sae=8)
    sae.provenance = {"activations": made.describe_activations()[""]}
    made.refuse_sae_of_others(sae, "own")
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match=r"own .*data.null=GaussianMatched, it has None"):
        made.refuse_sae_of_others(sae, "own", "gaussian")
    sae.provenance = {"activations": {"class": "HookedLanguageModel", "hook": "model.layers.0"}}
    made.refuse_sae_of_others(sae, "another")
    assert "another was not trained on a.pt" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named(tmp_path, bad):
    x = rows()
    torch.save(x[:120].clone(), tmp_path / "a.pt")
    x[143, 2] = bad
    torch.save(x[120:].clone(), tmp_path / "b.pt")
    with pytest.raises(ValueError, match=rf"b.pt: row 23 has {bad} in dimension 2"):
        list(data(tmp_path, heldout_fraction=0.2).train_dataloader())


def test_wrong_files(tmp_path):
    def refused(content, message, name="a.pt", **kwargs):
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=message):
            data(tmp_path / name, **kwargs)

    with pytest.raises(ValueError, match=r"paths=.*nowhere.*: there is no such file or folder"):
        data(tmp_path / "nowhere")
    refused({"x": rows(), "y": rows()}, r"a.pt holds x \[200, 4\] of float32, y .*: say with key which")
    refused({"x": rows()}, r"key=z: .*a.pt holds x \[200, 4\] of float32", key="z")
    refused(rows(), "holds one tensor without a name; leave out the key", key="z")
    refused({"ids": rows().long()}, r"holds ids \[200, 4\] of int64: expected floating-point numbers")
    refused({"ids": rows().long()}, r"expected floating-point numbers", key="ids")
    refused(rows()[0].clone(), r"holds a tensor \[4\] of float32: expected .* two dimensions")
    refused(rows()[:0].clone(), "no empty one")
    refused([1, 2], "holds no tensors")
    refused(rows(10), r"batch_size=8: heldout_fraction=0.1 of 10 rows leaves 9 to train on and 1 held out")
    refused(rows(), r"val_samples=21: heldout_fraction=0.1 of 200 rows leaves 20 held out", val_samples=21)
    refused(rows(), "heldout_fraction=1.0: expected a number above 0 and below 1", heldout_fraction=1.0)
    torch.save(rows(d_in=5), tmp_path / "b.pt")
    torch.save(rows(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a.pt has rows of width 4, .*b.pt has rows of width 5"):
        data(tmp_path)
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match=re.escape("a.csv is no file of activations: expected .safetensors")):
        data(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a.csv is no file of activations"):
        ActivationFiles([str(tmp_path / "a.pt"), str(tmp_path / "a.csv")])
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"c.npy is damaged, cut off or no npy file of numbers"):
        data(tmp_path / "c.npy")
