"""What is particular about activations in files; the contract of all datamodules is in test_datamodules.py."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from sae_lightning.datamodules import ActivationFiles, ActivationTensors, row_files
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


def save_parquet(x, path, **columns):
    flat = x.numpy().reshape(-1, x.shape[-1])
    pq.write_table(pa.table({"acts": list(flat), "id": np.arange(len(flat)), **columns}), path)


SAVERS |= {"a.parquet": save_parquet}
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
    assert "the 160 activations that there are to train on are read 2.0 times in an epoch" in caplog.text


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
def test_a_row_that_is_not_finite_is_named(tmp_path, monkeypatch, bad):
    x = rows()
    torch.save(x[:120].clone(), tmp_path / "a.pt")
    x[143, 2] = bad
    torch.save(x[120:].clone(), tmp_path / "b.pt")
    with pytest.raises(ValueError, match=rf"b.pt: row 23 has {bad} in dimension 2"):
        data(tmp_path, heldout_fraction=0.2)
    monkeypatch.setattr(row_files, "LOOKED_THROUGH", 0)  # files that are too large to be read beforehand
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


# Which rows are held out
# ----------------------------------------------------------------------------------------------------------------------


def numbered(n=N):
    """Activations that are the number of their row."""
    return torch.arange(n)[:, None].expand(n, D_IN).float().clone()


def sides(made):
    """The numbers of the training rows and of the held-out ones, as they are served."""
    loaders = (made.train_dataloader(), made.val_dataloader())
    return tuple(torch.cat(list(loader))[:, 0].long().sort().values for loader in loaders)


MARKS = torch.arange(N) % 5 == 3
DOCUMENTS = torch.arange(N) // 8  # 25 of 8 rows


@pytest.mark.parametrize(
    "marks", [MARKS, MARKS.int(), np.where(MARKS, "validation", "train")], ids=["bool", "0/1", "text"]
)
def test_marked_rows_are_held_out_and_never_in_training(tmp_path, marks):
    if isinstance(marks, np.ndarray):
        save_parquet(numbered(), tmp_path / "a.parquet", split=marks)
    else:
        save_file({"acts": numbered(), "split": marks}, tmp_path / "a.safetensors")
    train, heldout = sides(data(tmp_path, split_key="split"))
    assert torch.equal(heldout, MARKS.nonzero()[:, 0])
    assert torch.equal(train, (~MARKS).nonzero()[:, 0])


def test_groups_are_held_out_whole_and_the_same_whatever_the_seed_and_the_files(tmp_path):
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    for folder in (whole, sharded):
        folder.mkdir()
    save_file(
        {"acts": numbered().view(25, 8, D_IN), "text": torch.arange(25)}, whole / "a.safetensors"
    )  # one for 8 rows
    for i, part in enumerate(torch.arange(N).split(60)):  # a text goes on in the next file
        save_parquet(numbered()[part], sharded / f"{i}.parquet", text=[f"text {j:02}" for j in DOCUMENTS[part]])
    train, heldout = sides(data(whole, group_key="text", heldout_fraction=0.2))
    assert len(heldout) == 40
    assert torch.equal(torch.cat([train, heldout]).sort().values, torch.arange(N))
    assert not set((train // 8).tolist()) & set((heldout // 8).tolist())
    assert not torch.equal(heldout, torch.arange(160, N))  # not the last ones
    assert torch.equal(sides(data(sharded, group_key="text", heldout_fraction=0.2, seed=1))[1], heldout)


def test_one_group_at_least_is_on_each_side():
    for fraction in (0.001, 0.999):
        made = ActivationTensors(numbered(), groups=DOCUMENTS, heldout_fraction=fraction, batch_size=8)
        assert 8 in (made.n_train, N - made.n_train)


def test_a_tensor_is_the_same_data_as_a_file_of_it(tmp_path):
    x = rows().half()
    save_npy(x, tmp_path / "a.npy")
    of_file, of_tensor = data(tmp_path / "a.npy"), ActivationTensors(x.view(20, 10, D_IN), batch_size=8)
    assert of_file.describe_activations() == of_tensor.describe_activations()
    for name in ("train_dataloader", "val_dataloader"):
        assert torch.equal(*(torch.cat(list(getattr(made, name)())) for made in (of_file, of_tensor)))
    assert torch.equal(ActivationTensors(x.numpy(), batch_size=8).calibration_sample(9), of_file.calibration_sample(9))


def test_a_tensor_with_marks_for_its_first_dimension():
    made = ActivationTensors(numbered().view(20, 10, D_IN), heldout=torch.arange(20) % 4 == 1, batch_size=10)
    assert sorted(set((sides(made)[1] // 10).tolist())) == [1, 5, 9, 13, 17]
    assert (
        made.describe()["heldout"] != ActivationTensors(numbered(), heldout=MARKS, batch_size=8).describe()["heldout"]
    )


def test_wrong_tensors():
    def refused(message, *args, **kwargs):
        with pytest.raises(ValueError, match=message):
            ActivationTensors(*args, **{"batch_size": 8} | kwargs)

    refused("is of type list: expected a tensor", [[1.0]])
    refused(r"activations is \[4\] of torch.float32: expected floating-point", rows()[0])
    refused("of torch.int64: expected floating-point", rows().long())
    refused(
        "these tensors: row 3 has nan in dimension 1",
        rows().index_put((torch.tensor(3), torch.tensor(1)), torch.tensor(torch.nan)),
    )
    refused(r"groups has the shape \[3\] .* beside activations \[200, 'd_in'\]", rows(), groups=[0, 1, 2])
    refused(
        "heldout says of every row whether it is held out: leave out groups", rows(), heldout=MARKS, groups=DOCUMENTS
    )
    refused("leave out heldout_fraction", rows(), heldout=MARKS, heldout_fraction=0.5)
    refused("groups: all 200 rows are of one group", rows(), groups=torch.zeros(N, dtype=torch.long))
    refused("heldout: a row has the mark 2; expected train or validation", rows(), heldout=torch.arange(N))
    refused(
        "heldout of 200 rows leaves 200 to train on and 0 held out", rows(), heldout=torch.zeros(N, dtype=torch.bool)
    )


def test_wrong_columns(tmp_path):
    save_npy(rows(), tmp_path / "a.npy")
    with pytest.raises(
        ValueError, match=r"a.npy has no text beside the activations \(it holds one tensor without a name"
    ):
        data(tmp_path / "a.npy", group_key="text")
    save_parquet(rows(), tmp_path / "a.parquet", text=[None] * N)
    with pytest.raises(ValueError, match=r"a.parquet: text has no value in 200 rows"):
        data(tmp_path / "a.parquet", group_key="text")
    with pytest.raises(ValueError, match=r"a.parquet has no doc beside the activations \(it holds acts"):
        data(tmp_path / "a.parquet", group_key="doc")
    ragged = pa.table({"acts": [[1.0, 2.0], [3.0]]})
    pq.write_table(ragged, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet: acts has lists of 1 to 2 numbers"):
        data(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"c.parquet is damaged, cut off or no Parquet file"):
        data(tmp_path / "c.parquet")
