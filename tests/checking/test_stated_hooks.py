"""Hooks that files state: found in a model, compared with those of a cache and with those of other files."""

import pytest

from sae_lightning.checking import stated_hooks
from sae_lightning.checking.stated_hooks import in_model, refuse_other_cache, refuse_others
from sae_lightning.inspection.hook_names import name_in_model, output_in_model
from sae_lightning.saes import TopK

BLOCK = "model.layers.3"
SUBMODULES = [BLOCK, f"{BLOCK}.post_attention_layernorm", f"{BLOCK}.mlp"]


def sae(hook=None, target=None, d_out=None, model=None):
    own = TopK(8, d_sae=16, k=2, d_out=d_out)
    stated = {name: value for name, value in (("hook", hook), ("target", target), ("model", model)) if value}
    own.provenance = {"imported": {"stated": stated}}
    return own


@pytest.fixture(autouse=True)
def _submodules(monkeypatch):
    monkeypatch.setattr(stated_hooks, "submodule_names", lambda model: SUBMODULES)


@pytest.fixture
def cache(monkeypatch):
    """Say what the manifest of the cache is."""

    def has(hook, **manifest):
        whole = {"widths": {}, "d_in": 8, "data": {"hook": hook}} | manifest
        monkeypatch.setattr(stated_hooks, "read_manifest", lambda folder: whole)

    return has


def test_an_sae_may_read_what_goes_into_a_module_and_a_transcoder_reads_what_a_norm_gives():
    stated = {"hook": "layers.3.mlp.input", "target": "blocks.3.hook_mlp_out"}
    assert in_model(name_in_model, "m", stated, "w", "hook") == (f"{BLOCK}.mlp", True)
    assert in_model(output_in_model, "m", stated, "w", "hook") == f"{BLOCK}.post_attention_layernorm"
    assert in_model(output_in_model, "m", stated, "w", "target") == f"{BLOCK}.mlp"


@pytest.mark.parametrize(
    ("hook", "said"),
    [("blocks.9.hook_mlp_out", "blocks.9.hook_mlp_out, the output of the MLP of block 9, and"), ("odd", "odd, and")],
)
def test_a_hook_that_the_model_lacks_is_asked_for_by_its_option(hook, said):
    with pytest.raises(ValueError, match=f"^w states the target {said} .* with --target; `sae hooks"):
        in_model(output_in_model, "m", {"target": hook}, "w", "target")


def test_a_model_that_is_not_there_is_asked_for(monkeypatch):
    def missing(model):
        raise ValueError("m is not there")

    monkeypatch.setattr(stated_hooks, "submodule_names", missing)
    with pytest.raises(ValueError, match="m is not there; say with --model which model w is of"):
        in_model(name_in_model, "m", {"hook": "h"}, "w", "hook")


BOTH = {"read": f"{BLOCK}.post_attention_layernorm", "answer": f"{BLOCK}.mlp"}


@pytest.mark.parametrize(
    ("own", "hook", "manifest", "said"),
    [
        (sae("layers.3"), BLOCK, {}, None),
        (sae("layers.3"), BLOCK, {"d_in": 9}, "of width 9 and w reads 8"),
        (sae("layers.2"), BLOCK, {}, "at model.layers.3, the output of block 3, and w states the hook layers.2"),
        (sae("layers.3.attn.q"), f"{BLOCK}.self_attn.q_proj", {}, None),
        (sae(d_out=7), BOTH, {"widths": {"read": 8, "answer": 7}}, None),
        (
            sae(d_out=7),
            BOTH,
            {"widths": {"answer": 7, "read": 8}},
            "answer of width 7, read of width 8, and w is a tra",
        ),
        (sae(d_out=7), BLOCK, {}, "has activations of width 8, and w is a transcoder"),
        (sae("layers.3.mlp.input", "layers.3.mlp", 8), BOTH, {"widths": {"read": 8, "answer": 8}}, None),
        (
            sae("layers.3.mlp.input", "layers.4.mlp", 8),
            BOTH,
            {"widths": {"read": 8, "answer": 8}},
            "at model.layers.3.mlp, the output of the MLP of block 3, and w states the target layers.4.mlp",
        ),
    ],
)
def test_a_cache_has_the_widths_and_the_hooks_that_are_stated(cache, own, hook, manifest, said):
    cache(hook, **manifest)
    if said is None:
        refuse_other_cache("c", own, "w")
        return
    with pytest.raises(ValueError, match=said):
        refuse_other_cache("c", own, "w")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (sae("blocks.3.hook_resid_post", model="google/M"), None),
        (sae(), None),
        (sae("layers.2"), "the hook output of block 2 and one output of block 3"),
        (sae("layers.3", model="another"), "the model another and one m"),
        (sae("layers.3", "layers.3.mlp", 8), "the kind transcoder and one SAE"),
    ],
)
def test_saes_that_are_checked_together_are_of_one_place(other, said):
    saes = {"one": sae("layers.3", model="m"), "two": other}
    if said is None:
        refuse_others(saes)
        return
    with pytest.raises(ValueError, match=f"^two has {said}: "):
        refuse_others(saes)
