"""Runs of `sae` in processes of their own that start at once: a server that has imported everything forks them."""

import multiprocessing
import os
import signal
import socket
import sys

import torch
from lightning.pytorch import Callback

from sae_lightning.datamodules import FileText, SourceError, packing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["sae_lightning.commands.fit", "sae_lightning.datamodules", "transformers", __name__])


class Kill(Callback):
    """SIGKILL for this process: after a step, or in the middle of writing a checkpoint of that step or a later one."""

    def __init__(self, step, while_saving=False, rank=0):
        self.step, self.while_saving, self.rank = step, while_saving, rank

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step != self.step:
            return
        if not self.while_saving:
            os.kill(os.getpid(), signal.SIGKILL)
        save = torch.save

        def half(checkpoint, file, **kwargs):
            save(checkpoint, file, **kwargs)
            if kwargs:  # pickling of a tensor for another rank
                return
            file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        torch.save = half


class Breaking(FileText):
    """Cannot be read past its 60th document by the last rank, as long as there is a file `broken`."""

    def __init__(self, paths):
        super().__init__(paths)
        packing._DOCUMENTS_AT_ONCE = 8

    def check(self):
        """Read nothing ahead, as from a network."""

    def train(self, start=0):
        is_last = os.environ.get("LOCAL_RANK", "0") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)
        for number, document in enumerate(super().train(start), start):
            if number == 60 and is_last and os.path.exists("broken"):
                raise SourceError("the network is gone")
            yield document


def _run_here(arguments, folder, environment):
    os.environ.update(environment)
    os.chdir(folder)
    with open(f"output-{os.environ.get('LOCAL_RANK', 0)}.txt", "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    torch.set_num_threads(1)
    from sae_lightning.cli import main

    main(list(arguments))


def fit(folder, *arguments, ranks=1):
    """Exit codes of `sae fit --config ARGUMENTS` on so many ranks, started in the folder."""
    return run(folder, "fit", "--config", *arguments, ranks=ranks)


def run(folder, *arguments, ranks=1):
    """Exit codes of `sae ARGUMENTS` on so many ranks, started in the folder."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    rendezvous = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "NODE_RANK": "0"}
    processes = []
    for rank in range(ranks):
        environment = {} if ranks == 1 else {**rendezvous, "LOCAL_RANK": str(rank)}
        environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
        processes.append(CONTEXT.Process(target=_run_here, args=(arguments, folder, environment)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    return [process.exitcode for process in processes]
