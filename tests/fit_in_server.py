"""Runs of `sae` in processes of their own that start at once: a server that has imported everything forks them."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from types import SimpleNamespace

import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies.launchers import subprocess_script

from sae_lightning.datamodules import FileText, SourceError, packing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "sae_lightning.commands.fit",
        "sae_lightning.datamodules",
        "sae_lightning.figures.png",
        "sae_lightning.report.tensorboard",
        "matplotlib.backends.backend_agg",
        "open_clip",
        "torch.utils.tensorboard",
        "transformers.models.llama.modeling_llama",
        "transformers.models.gpt2.modeling_gpt2",
        __name__,
    ]
)
"""What a run imports, most of it where it is used first: 8 of the 10 seconds of a short run."""


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


class RaiseSignal(Callback):
    """A signal to this process at the start of step 13."""

    def __init__(self, name):
        self.name = name

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 12:
            signal.raise_signal(getattr(signal, self.name))


class EndOfOneRank(Callback):
    """Let the second rank sleep, fail, or get a signal after step 25, and be late at the end."""

    def __init__(self, how):
        self.how = how

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 25 and trainer.global_rank == 1:
            if self.how == "fails":
                raise ValueError("the loss is nan")
            if self.how == "is_slow":
                time.sleep(5)
            else:
                os.kill(os.getpid(), getattr(signal, self.how))

    def on_fit_end(self, trainer, *args):
        if trainer.global_rank == 1:
            time.sleep(5)  # and ends late


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


def _call_here(function, arguments, folder, environment):
    os.environ.update(environment)
    os.chdir(folder)
    with open(f"output-{os.environ.get('LOCAL_RANK', 0)}.txt", "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    torch.set_num_threads(1)
    function(*arguments)


def _main_here(*arguments):
    from sae_lightning.cli import main

    main(list(arguments))


class _ForkedRank(subprocess.Popen):
    """A rank that Lightning's launcher starts: forked, where a new interpreter would import everything again."""

    def _execute_child(self, arguments, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        self.pid = os.fork()
        self._child_created = True
        if self.pid:
            return
        code = 1
        try:
            os.environ.update(env)
            _main_here(*arguments)
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def _launch_here(arguments, folder):
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open("errors.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    popen = lambda command, env, cwd: _ForkedRank(arguments, env=env, cwd=cwd)  # noqa: E731
    subprocess_script.subprocess = SimpleNamespace(Popen=popen)
    torch.set_num_threads(1)
    _main_here(*arguments)


def launch(folder, *arguments):
    """Exit code of `sae ARGUMENTS`, which starts its other ranks itself, and what all ranks wrote to stderr."""
    process = CONTEXT.Process(target=_launch_here, args=(arguments, folder))
    process.start()
    process.join(300)
    process.kill()
    return process.exitcode, (folder / "errors.txt").read_text()


def fit(folder, *arguments, ranks=1):
    """Exit codes of `sae fit --config ARGUMENTS` on so many ranks, started in the folder."""
    return run(folder, "fit", "--config", *arguments, ranks=ranks)


def run(folder, *arguments, ranks=1):
    """Exit codes of `sae ARGUMENTS` on so many ranks, started in the folder."""
    return call(_main_here, folder, *arguments, ranks=ranks)


def call(function, folder, *arguments, ranks=1):
    """Exit codes of a function of a module on so many ranks, started in the folder."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    rendezvous = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "NODE_RANK": "0"}
    processes = []
    for rank in range(ranks):
        environment = {} if ranks == 1 else {**rendezvous, "LOCAL_RANK": str(rank)}
        environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
        processes.append(CONTEXT.Process(target=_call_here, args=(function, arguments, folder, environment)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    return [process.exitcode for process in processes]
