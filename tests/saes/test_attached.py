"""An SAE attached to models of transformers and open_clip: reading, editing, splicing, gradients."""

import open_clip
import pytest
import tiny
import torch
import transformers
from tiny_clip import save_tiny_clip

from sae_lightning.saes import ReLU, TopK

HOOK = "model.layers.0"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny.save_tiny_lm(tmp_path_factory.mktemp("tiny_lm"))
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def sae(model):
    made = TopK(model.config.hidden_size, k=4, d_sae=64).eval()
    with torch.no_grad():
        made.b_dec.normal_()
    return made


IDS = torch.arange(12).view(2, 6)


def at_hook(model):
    return model(IDS, output_hidden_states=True).hidden_states[1]


def logits_with(model, activations):
    """The logits when these are what the block gives, by a plain hook of torch."""

    def put(module, args, output):
        return activations if isinstance(output, torch.Tensor) else (activations, *output[1:])

    handle = model.get_submodule(HOOK).register_forward_hook(put)
    try:
        return model(IDS).logits
    finally:
        handle.remove()


def test_latents_of_a_prompt_and_nothing_else_changes(model, sae):
    before = model(IDS).logits
    with sae.attach(model, HOOK) as attached:
        with pytest.raises(ValueError, match="has not run this submodule since"):
            _ = attached.latents
        assert torch.equal(model(IDS).logits, before)
    assert attached.latents.leading == (2, 6)
    assert torch.equal(attached.latents.to_dense(), sae.encode(at_hook(model)).to_dense())
    assert torch.equal(model(IDS).logits, before)


def test_the_reconstruction_with_and_without_its_error(model, sae):
    x = at_hook(model)
    with sae.attach(model, HOOK, keep_error=False):
        spliced = model(IDS).logits
    torch.testing.assert_close(spliced, logits_with(model, sae(x)))
    assert not torch.allclose(spliced, model(IDS).logits)
    with sae.attach(model, HOOK, gradient=True):  # which puts it together from its parts
        torch.testing.assert_close(model(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("keep_error", [True, False])
def test_edits_are_those_of_the_latents(model, sae, keep_error):
    x = at_hook(model)
    dense = sae.encode(x).to_dense()
    first, second = dense.flatten(0, 1).sum(0).argsort(descending=True)[:2].tolist()
    edited = dense.clone()
    edited[..., first] = 0
    edited[..., second] *= 3
    edited[..., 63] += 2.5
    expected = sae.decode(edited) + (x - sae(x) if keep_error else 0)
    with sae.attach(
        model, HOOK, ablate=[first], scale={second: 3.0}, steer={63: 2.5}, keep_error=keep_error
    ) as attached:
        torch.testing.assert_close(model(IDS).logits, logits_with(model, expected))
    assert torch.equal(attached.latents.to_dense(), dense)  # as they were before


def test_steering_changes_what_is_generated_with_a_cache(model, sae):
    """Each new token is a forward of its own, and the same tokens come as without a cache."""
    arguments = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(IDS, **arguments)
    with sae.attach(model, HOOK, steer={5: 200.0}) as attached:
        steered = model.generate(IDS, **arguments)
        without_cache = model.generate(IDS, use_cache=False, **arguments)
    assert attached.latents.leading[0] == 2
    assert not torch.equal(plain, steered)
    assert torch.equal(steered, without_cache)
    assert torch.equal(model.generate(IDS, **arguments), plain)


@pytest.mark.parametrize("keep_error", [True, False])
def test_attribution_is_the_effect_of_a_small_scaling(model, sae, keep_error):
    with sae.attach(model, HOOK, gradient=True, keep_error=keep_error) as attached:
        with pytest.raises(ValueError, match="no gradient has come to the latents"):
            model(IDS) and attached.attribution()
        model(IDS).logits[0, -1, 3].backward()
    attribution = attached.attribution()
    latent = int(attribution.to_dense().sum((0, 1)).abs().argmax())
    ends = []
    for factor in (0.99, 1.01):
        with sae.attach(model, HOOK, scale={latent: factor}, keep_error=keep_error):
            ends.append(model(IDS).logits[0, -1, 3])
    of_latent = attribution.to_dense()[..., latent].sum()
    torch.testing.assert_close((ends[1] - ends[0]) / 0.02, of_latent, rtol=2e-2, atol=1e-4)
    assert all(parameter.grad is None for parameter in sae.parameters())
    assert not attribution.to_dense()[1].any()  # another row


def test_gradients_reach_what_is_below(model, sae):
    embeddings = model.get_input_embeddings()(IDS).requires_grad_()
    with sae.attach(model, HOOK, gradient=True, keep_error=False) as attached:
        model(inputs_embeds=embeddings).logits.sum().backward()
    assert embeddings.grad.any()
    assert attached.attribution().nnz


def test_activations_of_large_norm_are_left_alone(model, sae):
    x = at_hook(model)
    norms = x.norm(dim=-1)
    limit = float(norms.median())
    expected = torch.where((norms <= limit)[..., None], sae(x), x)
    with sae.attach(model, HOOK, keep_error=False, max_norm=limit) as attached:
        torch.testing.assert_close(model(IDS).logits, logits_with(model, expected))
    assert torch.equal(attached.latents.l0() > 0, (norms <= limit).flatten())


def test_half_precision_input_norm_and_many_active_latents(model):
    sae = ReLU(model.config.hidden_size, d_sae=16, input_norm="layer_norm").eval()  # a third or more are active
    half = transformers.AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16).eval()
    with sae.attach(half, HOOK, scale={0: 2.0}, steer={1: 1.0}, max_norm=1e9) as attached:
        assert half(IDS).logits.dtype == torch.bfloat16
    assert attached.latents.row_norm is not None


@pytest.mark.parametrize("tower", ["visual.transformer.resblocks.0", "transformer.resblocks.0"])
def test_both_towers_of_a_clip_model(tower, tmp_path):
    clip = open_clip.create_model(f"local-dir:{save_tiny_clip(tmp_path)}").eval()
    pixels, ids = (
        torch.rand(
            2, 3, *[clip.visual.image_size] * 2 if isinstance(clip.visual.image_size, int) else clip.visual.image_size
        ),
        IDS % 7,
    )
    run = (
        (lambda: clip.encode_image(pixels))
        if "visual" in tower
        else (lambda: clip.encode_text(ids.repeat(1, 20)[:, : clip.context_length]))
    )
    width = clip.get_submodule(tower).ln_1.normalized_shape[0]
    sae = TopK(width, k=2, d_sae=32).eval()
    before = run()
    with sae.attach(clip, tower, ablate=range(32)) as attached:
        assert not torch.allclose(run(), before)
    assert attached.latents.leading[0] == 2


def test_a_module_with_one_activation_a_row(sae):
    """And latents whose numbers are those of a tensor."""
    width = sae.d_in
    network = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.ReLU()).eval()
    x = torch.randn(5, 3)
    strongest = sae.encode(network[0](x)).to_dense()[0].argmax()
    with sae.attach(network, "0", ablate=[strongest], keep_error=False) as attached:
        changed = network(x)
    assert attached.latents.leading == (5,)
    dense = attached.latents.to_dense()
    dense[:, strongest] = 0.0
    torch.testing.assert_close(changed, sae.decode(dense).relu())


def test_wrong_ways_to_attach(model, sae):
    def refused(message, hook=HOOK, own=sae, **options):
        with pytest.raises(ValueError, match=message), own.attach(model, hook, **options):
            model(IDS)

    refused("no such submodule; near are model.layers.0", hook="model.layer.0")
    refused(r"hook=lm_head has activations of width \d+, and the SAE has d_in=", hook="lm_head")
    refused("ablate: there is no latent 64; expected 0 to 63", ablate=[64])
    refused("steer: there is no latent -1", steer={-1: 1.0})
    refused("ablate: there is no latent tensor", ablate=[torch.tensor([1, 2])])
    refused("scale: latent 3 has nan", scale={3: float("nan")})
    refused("latent 3 is ablated and scaled", ablate=[3], scale={3: 2.0})
    refused("max_norm=0", max_norm=0.0)
    refused("in training mode", own=TopK(model.config.hidden_size, k=4, d_sae=64))
