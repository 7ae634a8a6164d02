"""How many cores there are, and how threads wait, decided before torch is imported."""

import os
import subprocess
import sys

import pytest
import torch

from sae_lightning import cores, cpu_settings

VERSION_1 = {"cpu/job/cpu.cfs_quota_us": "150000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}
VERSION_2 = {"job/task/cpu.max": "max 100000\n", "job/cpu.max": "250000 100000\n"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes a machine of files: control groups, what runs, and variables."""
    for name in (*cores._WAITING, *cpu_settings._THREADS, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(cores, "allowed_cores", lambda: 4)
    monkeypatch.setattr(cpu_settings, "allowed_cores", lambda: 4)

    def make(groups="", files=(), running=1, **variables):
        contents = {"proc/self/cgroup": groups, "proc/loadavg": f"9.00 0.00 0.00 {running}/200 77\n"}
        contents |= {f"cgroup/{name}": text for name, text in dict(files).items()}
        for name, text in contents.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return make


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("", {}, float("inf")),
        ("3:memory:/job\n2:cpu,cpuacct:/job\n", VERSION_1, 1.5),
        ("2:cpu:/of/the/host\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ("2:memory:/job\n", VERSION_1, float("inf")),
        ("0::/job/task\n", VERSION_2, 2.5),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "garbage"}, float("inf")),
    ],
)
def test_what_control_groups_grant(machine, groups, files, quota):
    machine(groups, files)
    assert cores.cpu_quota() == quota


def test_cores_of_this_process(machine):
    machine()
    assert cores.own_cores() == 4
    machine("0::/job/task\n", VERSION_2)
    assert cores.own_cores() == 2
    machine("0::/job/task\n", VERSION_2, LOCAL_WORLD_SIZE="2")
    assert cores.own_cores() == 1
    machine("0::/job/task\n", VERSION_2, LOCAL_WORLD_SIZE="8")
    assert cores.own_cores() == 1


@pytest.mark.parametrize(
    ("groups", "running", "variables", "policy"),
    [
        ("", 1, {}, None),  # idle, whatever the load of the last minute: nothing changes
        ("", 2, {}, "PASSIVE"),
        ("0::/job/task\n", 1, {}, "PASSIVE"),
        ("", 9, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ("", 9, {"GOMP_SPINCOUNT": "100"}, None),
        ("", 9, {"KMP_BLOCKTIME": "1"}, None),
    ],
)
def test_threads_sleep_where_cores_are_shared_or_limited(machine, monkeypatch, groups, running, variables, policy):
    monkeypatch.setattr(os, "environ", dict(os.environ) | variables)
    machine(groups, VERSION_2, running)
    cores.let_threads_sleep()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_threads_are_limited_and_never_raised(machine, threads):
    machine("0::/job/task\n", VERSION_2)
    cpu_settings.limit_threads()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    cpu_settings.limit_threads()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_of_threads_that_the_user_has_set_stays(machine, threads, name):
    machine("0::/job/task\n", VERSION_2, running=9, **{name: "4"})
    cpu_settings.limit_threads()
    cpu_settings.share_threads(4)
    assert torch.get_num_threads() == 4


def test_processes_of_a_run_share_its_cores(machine, threads, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    machine()
    cpu_settings.share_threads(1)
    assert "OMP_NUM_THREADS" not in os.environ
    cpu_settings.share_threads(2)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert torch.get_num_threads() == 2


def test_load_changes_no_number_of_threads_and_is_said(machine, threads, caplog):
    machine(running=3)
    with caplog.at_level("INFO"):
        cpu_settings.limit_threads()
    assert torch.get_num_threads() == 4
    assert "2 threads of other processes share the 4 cores" in caplog.text
    assert "OMP_NUM_THREADS=1" in caplog.text


def test_the_command_decides_before_torch_is_imported():
    code = (
        "import os, sys, sae_lightning.cores as cores\n"
        "cores.cpu_quota = lambda: 0.5\n"
        "from sae_lightning.__main__ import main\n"
        "main(['--version'])\n"
        "print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in cores._WAITING}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "False PASSIVE"
