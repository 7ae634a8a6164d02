"""null takes an option back at any depth, and is refused where it can mean nothing."""

from pathlib import Path

import pytest
import yaml

from sae_lightning.cli import main
from sae_lightning.commands.fit import NAMED_CLASSES
from sae_lightning.commands.nulls import refuse_nulls

PANEL = ["--config=sanity_pocket_lm"]
FILES = ["--config=topk", f"--config={Path(__file__).parents[2] / 'configs/data/smollm2.yaml'}"]


def subclasses_of_ours(base):
    """The class and all that extend it, of the package."""
    ours = [base] if base.__module__.startswith("sae_lightning.") else []
    return dict.fromkeys(ours + [kind for own in base.__subclasses__() for kind in subclasses_of_ours(own)])


@pytest.mark.parametrize(
    ("config", "arguments", "place", "expected"),
    [
        (PANEL, ["--model.sae.d_sae=8", "--model.sae.expansion_factor", "null"], ("sae", "expansion_factor"), None),
        (PANEL, ["--model.init_args.sae.init_args.lr_scheduler=null"], ("sae", "lr_scheduler"), None),
        (PANEL, ["--model.sae.optimizer.foreach", "null"], ("sae", "optimizer", "foreach"), None),
        (PANEL, ["--model.sae.optimizer.foreach", "true"], ("sae", "optimizer", "foreach"), True),
        (PANEL, ["--model.seeds", "[7]"], ("seeds",), [7]),
        (FILES, ["--data.text.heldout", "null"], ("text", "heldout"), None),
    ],
)
def test_null_takes_an_option_back_at_any_depth(capsys, config, arguments, place, expected):
    with pytest.raises(SystemExit):
        main(["fit", *config, *arguments, "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["data" if "data" in arguments[0] else "model"]
    for name in place:
        found = found["init_args"][name]
    assert found == expected


def test_null_for_a_switch_is_refused_wherever_it_stands():
    text = {"class_path": "sae_lightning.datamodules.HubText", "init_args": {"path": "a", "streaming": None}}
    with pytest.raises(ValueError, match=r"^data\.text\[1\]\.streaming=null: expected true or false"):
        refuse_nulls({"data": {"class_path": "elsewhere.Data", "init_args": {"text": [None, text]}}})
    with pytest.raises(ValueError, match=r"^model\.optimizer=null: expected a class"):
        refuse_nulls({"model": {"class_path": "sae_lightning.saes.TopK", "init_args": {"optimizer": None}}})


def test_null_is_no_matter_where_it_can_mean_something_or_is_not_read():
    refuse_nulls({"data": None, "model": {"class_path": "sae_lightning.saes.TopK", "init_args": {"d_sae": None}}})
    refuse_nulls({"model": {"class_path": "sae_lightning.gone.Gone", "init_args": {"streaming": None}}})


@pytest.mark.parametrize("kind", [kind for base in NAMED_CLASSES for kind in subclasses_of_ours(base)])
def test_the_types_of_what_every_class_takes_can_be_read(kind):
    """Null is what makes it look at the types of a class."""
    refuse_nulls({"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": {"no such option": None}})
