"""What centred writing weights do to activations, by TransformerLens itself where it is installed."""

import copy

import pytest
import torch

from sae_lightning.formats.centring import is_centred

NAMES = ["hook_embed", "hook_pos_embed"]
NAMES += [f"blocks.1.{name}" for name in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")]
NAMES += [f"blocks.1.{name}" for name in ("hook_mlp_out", "hook_attn_out", "mlp.hook_post")]


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
@pytest.mark.parametrize("norm", ["LN", "RMS"])
def test_default_processing_centres_what_we_say_it_does(norm):
    lens = pytest.importorskip("transformer_lens")
    sizes = {"n_layers": 2, "d_model": 16, "n_ctx": 20, "d_head": 4, "n_heads": 4, "d_vocab": 30, "d_mlp": 32}
    torch.manual_seed(0)
    raw = lens.HookedTransformer(lens.HookedTransformerConfig(act_fn="gelu_new", normalization_type=norm, **sizes))
    for parameter in raw.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    processed = copy.deepcopy(raw)
    processed.load_and_process_state_dict(raw.state_dict())
    tokens = torch.randint(0, 30, (2, 10))
    before, after = raw.run_with_cache(tokens)[1], processed.run_with_cache(tokens)[1]
    for name in NAMES:
        x = before[name]
        model = {"LN": "gpt2-small", "RMS": "gemma-2b"}[norm]
        centred = is_centred({"model_name": model, "hook_name": name}, loaded_with_defaults=True)
        assert centred == (norm == "LN" and "hook_post" not in name)
        torch.testing.assert_close(after[name], x - centred * x.mean(-1, keepdim=True), rtol=1e-4, atol=1e-5)
