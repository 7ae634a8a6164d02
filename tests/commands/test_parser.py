"""Every command parses alike: the same help, and one message for a mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.commands.data_options import NOT_DATA
from sae_lightning.commands.parser import make_parser, parse

DESCRIPTION = """A first line.

- one: an item that is so long that it does not fit into a line of fifty characters,
- two: another

An end."""


@pytest.fixture
def parser():
    parser = make_parser("example", DESCRIPTION)
    parser.add_argument("RUN", nargs="+", type=Path, help="A folder.")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="Default: here.")
    parser.add_argument("--n", type=int, default=5, metavar="N", help="How many.")
    parser.add_argument("--kind", type=str, default="a", help="Which.")
    return parser


def test_help_keeps_paragraphs_and_items_and_says_nothing_twice(parser, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "52")
    with pytest.raises(SystemExit) as stop:
        parse(parser, ["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "A first line.\n\n- one: an item" in printed
    assert "characters,\n- two: another\n\nAn end.\n" in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "RUN A folder. (required)" in lines
    assert "--out FOLDER Default: here." in lines
    assert "--n N How many. (default: 5)" in lines
    assert "--kind KIND Which. (type: str, default: a)" in lines


@pytest.mark.parametrize("name", ["007", "1e3", "null", "set [v1]", "{x}", "2024-01-01", "a: b", "true"])
def test_a_path_is_taken_as_it_is(parser, name):
    settings = parse(parser, [name, "other", "--out", name])
    assert (settings.RUN, settings.out) == ([Path(name), Path("other")], Path(name))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "the following arguments are required: RUN"),
        (["a", "--n", "few"], "n: expected int, got few"),
        (["a", "--nn", "1"], r"unrecognized arguments: --nn 1; did you mean --n\?"),
        (["a", "--n"], "argument --n: expected one argument"),
        (
            ["a", "--n", "1", "b"],
            "unrecognized arguments: b: words without an option stand together, .*",
        ),
    ],
)
def test_a_mistake_is_a_value_error(parser, args, expected):
    with pytest.raises(ValueError, match=f"^{expected}$"):
        parse(parser, args)


@pytest.mark.parametrize(
    "args",
    [
        ["fit", "--nothing", "1"],
        ["validate", "--nothing", "1"],
        ["cache", "--nothing", "1"],
        ["density", "--nothing", "1"],
        ["stitch", "--nothing", "1"],
        ["explain", "RUN", "trained/0", "1", "--nothing", "1"],
        ["report", "RUN", "--nothing", "1"],
        ["figures", "RUN", "--nothing", "1"],
        ["scoreboard", "CHECK", "--nothing", "1"],
        ["report"],
        ["figures"],
        ["explain", "RUN"],
    ],
)
def test_a_mistake_is_one_message_of_every_command(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    first, hint = printed.err.splitlines()
    assert first.startswith("error: ")
    assert hint.startswith(f"(sae {args[0]} --help lists the options")


@pytest.mark.parametrize("command", ["cache", "density", "stitch"])
def test_what_is_ignored_is_not_in_the_help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert "--data" in printed
    assert not [key for key in NOT_DATA if f"--{key}" in printed]


def test_help_of_commands_without_data_imports_no_heavy_library():
    words = ("check", "compare", "explain", "figures", "hooks", "inspect", "list", "report", "scoreboard")
    code = (
        "import sys; from sae_lightning.cli import main\n"
        f"for word in {words}:\n"
        "    try: main([word, '--help'])\n"
        "    except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'pandas', 'scipy', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
