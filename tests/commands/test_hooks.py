import pytest
import tiny

from sae_lightning import cli
from sae_lightning.sources import ClipSource, LanguageModelSource


def listed(capsys, *args):
    capsys.readouterr()
    cli.main(["hooks", *args])
    lines = capsys.readouterr().out.splitlines()
    return {name: int(width) for name, width in (line.split() for line in lines)}


def test_every_hook_that_is_listed_is_taken(tmp_path, capsys):
    model = tiny.save_tiny_lm(tmp_path / "lm", layers=1)
    outputs, inputs = listed(capsys, model), listed(capsys, model, "--hook_input")
    assert outputs["model.layers.0"] == inputs["lm_head"] == 16
    assert "lm_head" not in outputs
    assert "model.rotary_emb" not in outputs
    for hooks, hook_input in ((outputs, False), (inputs, True)):
        for name, width in hooks.items():
            assert LanguageModelSource(model, name, hook_input).d_in == width


def test_both_towers_of_a_clip_model(tiny_clip, capsys):
    hooks = listed(capsys, tiny_clip, "--clip")
    assert "visual.transformer.resblocks.0" in hooks
    assert "transformer.resblocks.0" in hooks
    assert ClipSource(tiny_clip, "transformer.resblocks.0").d_in == hooks["transformer.resblocks.0"]


def test_weights_of_an_architecture_are_for_open_clip(capsys):
    with pytest.raises(SystemExit):
        cli.main(["hooks", "ViT-B-32", "--pretrained", "openai"])
    assert "add --clip" in capsys.readouterr().err
