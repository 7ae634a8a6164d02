"""Runs that start in the same second: each has a folder of its own."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from sae_lightning.callbacks.run_config import take_folder
from sae_lightning.loggers import MemberTensorBoardLogger, RunFolder
from sae_lightning.runs.next_folder import next_number, take_next_folder


@pytest.mark.parametrize(("there", "free"), [((), 0), (("version_2", "version_10", "version_old"), 11)])
def test_the_next_free_number_is_after_all_others(there, free, tmp_path):
    for name in there:
        (tmp_path / name).mkdir()
    assert next_number(tmp_path) == free
    assert take_next_folder(tmp_path).name == f"version_{free}"


def test_of_many_who_take_a_folder_at_once_each_has_its_own(tmp_path):
    n, experiment = 8, tmp_path / "runs"
    barrier = Barrier(n)

    def take(_):
        barrier.wait()
        return take_next_folder(experiment)

    with ThreadPoolExecutor(n) as threads:
        taken = list(threads.map(take, range(n)))
    assert sorted(path.name for path in taken) == [f"version_{number}" for number in range(n)]


@pytest.mark.parametrize("logger", [MemberTensorBoardLogger, RunFolder, CSVLogger, TensorBoardLogger])
def test_two_runs_that_have_written_nothing_yet_lie_apart(logger, tmp_path):
    trainers = [Trainer(accelerator="cpu", logger=logger(str(tmp_path), "runs")) for _ in range(2)]
    for trainer in trainers:
        take_folder(trainer, "fit", None)
    places = [trainer.log_dir for trainer in trainers]
    assert places == [str(tmp_path / "runs" / f"version_{number}") for number in range(2)]
