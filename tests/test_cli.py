"""The table of commands, and how an error of each is reported; what ``sae fit`` says is in commands/test_fit.py."""

import os
import signal
import subprocess
import sys

import pytest

from sae_lightning.cli import COMMANDS, main


def error(capsys: pytest.CaptureFixture, *args: str) -> str:
    """Run something impossible; return what stands on stderr."""
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_help_lists_every_command(capsys: pytest.CaptureFixture):
    main(["--help"])
    told = capsys.readouterr().out
    for word, command in COMMANDS.items():
        assert any(line.split(maxsplit=1) == [word, command.help] for line in told.splitlines())


def test_help_imports_the_standard_library_and_itself():
    code = (
        "import sys; before = {*sys.modules}; from sae_lightning.cli import main; main(['--help']); "
        "new = {name.partition('.')[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names; "
        "assert new == {'sae_lightning'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture):
    assert error(capsys, "compar") == "error: unknown command 'compar': did you mean 'sae compare'?\n"
    assert "choose from fit" in error(capsys, "zzzzzz")


def test_an_error_on_a_terminal_is_not_cut_within_a_word(capsys, monkeypatch):
    names = " ".join(f"folder_number_{number}" for number in range(9))
    whole = error(capsys, "report", names)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = error(capsys, "report", names)
    assert max(map(len, whole.splitlines())) > 80 >= max(map(len, shown.splitlines()))
    assert shown.split()[-len(whole.split()) :] == whole.split()  # after the moving line


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_reader_that_has_seen_enough_is_no_error(option):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sae_lightning", option], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
