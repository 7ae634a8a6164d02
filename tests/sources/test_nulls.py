import pytest
import tiny
import torch
from torch.nn.functional import normalize

from sae_lightning.metrics.functional import explained_variance_compute, moments_update, squared_error_update
from sae_lightning.saes import TopK
from sae_lightning.sources import (
    GaussianMatched,
    LanguageModelSource,
    NullSource,
    RandomRotation,
    RedrawnModules,
    Reinitialised,
    ShuffledDimensions,
    ShuffledHooks,
    SyntheticSource,
    TokenBatch,
)

D_IN = 6
IDS = torch.arange(1, 25).reshape(2, 12)
INPUTS = TokenBatch(IDS, IDS > 3)


def activations(n, seed=0):
    """Correlated, skewed and with a mean."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(9))
    return torch.rand(n, D_IN, generator=random) ** 3 @ mixing + torch.arange(D_IN)


def beside(null, name="null"):
    """A synthetic source with this null, whose statistics come from `activations`."""
    return NullSource(SyntheticSource(d_in=D_IN, n_features=20), {name: null}, lambda n: activations(n, seed=1))


def null_of(null, x):
    both, counts = beside(null).capture(x)
    assert counts.all()
    assert torch.equal(both[:, :D_IN], x)
    return both[:, D_IN:]


@pytest.fixture(scope="module")
def model(tiny_lm):
    return LanguageModelSource(tiny_lm, "model.layers.0")


def all_nulls(model):
    nulls = {
        "gaussian": GaussianMatched(),
        "shuffled": ShuffledDimensions(),
        "rotated": RandomRotation(),
        "reinitialised": Reinitialised(seed=1),  # seed 0 made the tiny model
    }
    samples = torch.randn(2000, model.d_in, generator=torch.Generator().manual_seed(0))
    return NullSource(model, nulls, lambda n: samples[:n])


def test_gaussian_noise_has_mean_and_covariance_and_nothing_else():
    x = activations(40_000)
    noise = null_of(GaussianMatched(samples_per_dimension=5000), x).double()
    x = x.double()
    torch.testing.assert_close(noise.mean(0), x.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(noise.T.cov(), x.T.cov(), atol=0.03, rtol=0)
    centred, real = ((of - of.mean(0)) / of.std(0) for of in (noise, x))
    assert (centred**3).mean(0).abs().max() < 0.06
    assert (real**3).mean(0).abs().max() > 0.3
    assert torch.stack([noise, x]).mean(2).corrcoef()[0, 1].abs() < 0.02


def test_shuffling_keeps_each_coordinate_and_no_correlation():
    x = activations(20_000)
    shuffled = null_of(ShuffledDimensions(), x)
    assert torch.equal(shuffled.sort(0).values, x.sort(0).values)
    correlations = shuffled.T.double().corrcoef() - torch.eye(D_IN)
    assert correlations.abs().max() < 0.03
    assert (x.T.double().corrcoef() - torch.eye(D_IN)).abs().max() > 0.3


def test_rotation_is_orthogonal_and_moves_every_axis():
    rotation = null_of(RandomRotation(), torch.eye(D_IN))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(D_IN))
    assert rotation.abs().max() < 0.999
    assert not torch.equal(rotation, null_of(RandomRotation(seed=1), torch.eye(D_IN)))


def test_rotation_does_not_matter_to_an_sae_that_starts_rotated_along():
    x = activations(256)
    rotation = null_of(RandomRotation(), torch.eye(D_IN))

    def train(x, directions):
        sae = TopK(D_IN, k=2, d_sae=16)
        sae.W_dec.data.copy_(directions)
        sae.W_enc.data.copy_(directions.T)
        optimizer = torch.optim.SGD(sae.parameters(), lr=1e-3)  # Adam's steps depend on the coordinates
        for step in range(60):
            optimizer.zero_grad()
            sae.losses(x, step)["loss"].backward()
            sae.project_decoder_gradient()
            optimizer.step()
            sae.constrain()
        code = sae.encode(x)
        x_hat = sae.decode(code).detach()
        return explained_variance_compute(squared_error_update(x, x_hat), moments_update(x)), code.l0()

    start = normalize(torch.randn(16, D_IN, generator=torch.Generator().manual_seed(3)), dim=1)
    explained, l0 = train(x, start)
    rotated, rotated_l0 = train(null_of(RandomRotation(), x), start @ rotation)
    assert explained > 0.3
    torch.testing.assert_close(rotated, explained, atol=1e-4, rtol=0)
    assert (rotated_l0.float().mean() - l0.float().mean()).abs() < 0.02


def test_noise_depends_on_inputs_and_seed_alone():
    x = activations(50)
    for null in (GaussianMatched, ShuffledDimensions):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        noise = null_of(null(), x)
        assert torch.equal(noise, null_of(null(), x.clone()))
        assert torch.equal(before, torch.get_rng_state())
        assert not torch.equal(noise, null_of(null(seed=1), x))
        assert not torch.equal(noise[1:], null_of(null(), x[1:]))


def test_a_source_with_the_state_of_another_gives_its_bits():
    x, first = activations(50), beside(GaussianMatched())
    expected = first.capture(x)[0]
    other = NullSource(first.source, {"null": GaussianMatched()}, lambda n: pytest.fail("statistics are known"))
    other.load_state_dict(first.state_dict())
    assert torch.equal(other.capture(x)[0], expected)


def test_parts_stand_side_by_side(model):
    source = all_nulls(model)
    names = ["", "gaussian", "shuffled", "rotated", "reinitialised"]
    assert list(source.widths) == names
    assert source.d_in == 5 * 16
    assert source.noise_parts == ("gaussian", "shuffled")
    assert source.vocabulary == model.vocabulary  # in everything else it is the model
    captured, counts = source.capture(INPUTS)
    real, gaussian, shuffled, rotated, reinitialised = captured.split(16, -1)
    assert torch.equal(counts, INPUTS.mask)
    assert torch.equal(real, model.capture(INPUTS)[0])
    for noise in (gaussian, shuffled):
        assert torch.equal(noise[~counts], real[~counts])
        assert not torch.isclose(noise[counts], real[counts]).all(1).any()
    assert torch.equal(shuffled[counts].sort(0).values, real[counts].sort(0).values)
    torch.testing.assert_close(rotated.norm(dim=-1), real.norm(dim=-1))
    assert not torch.allclose(reinitialised, real)
    assert torch.equal(all_nulls(model).capture(INPUTS)[0], captured)
    assert source.capture(INPUTS)[0].is_inference() is False
    with torch.inference_mode():
        assert torch.equal(all_nulls(model).capture(INPUTS)[0], captured)


def test_what_stands_at_the_hook_is_what_was_captured(model):
    source, clean = all_nulls(model), model.replace(INPUTS, lambda x: x)
    captured = dict(zip(source.widths, source.capture(INPUTS)[0].split(16, -1), strict=True))
    for part, expected in captured.items():
        seen = []
        logits = source.replace(INPUTS, lambda x: seen.append(x) or x, part)  # noqa: B023
        torch.testing.assert_close(seen[0], expected)
        ones = source.replace(INPUTS, torch.ones_like, part)
        if part in ("", "rotated"):
            torch.testing.assert_close(logits, clean, atol=1e-4, rtol=1e-4)
        else:
            assert not torch.allclose(logits, clean, atol=0.1), part
        # ones of other coordinates, or in another model, are not the same
        assert torch.allclose(ones, model.replace(INPUTS, torch.ones_like)) == (part in ("", "gaussian", "shuffled"))
    noisy = source.replace(INPUTS, lambda x: x, "gaussian")
    assert torch.equal(noisy, model.replace(INPUTS, lambda x: captured["gaussian"]))


def test_a_model_drawn_anew_may_keep_its_embeddings(tiny_lm):
    embedded = LanguageModelSource(tiny_lm, "model.embed_tokens")
    state = torch.get_rng_state()
    for keep in (True, False):
        source = NullSource(embedded, {"new": Reinitialised(embeddings=not keep, seed=1)}, lambda n: torch.zeros(n, 16))
        real, new = source.capture(INPUTS)[0].split(16, -1)
        assert torch.equal(real, new) == keep
        layer, redrawn = source.model.model.layers[0], source.nulls["new"]._source.model.model.layers[0]
        assert not torch.equal(layer.mlp.up_proj.weight, redrawn.mlp.up_proj.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_null_activations_have_the_number_format_of_the_model(tmp_path):
    source = all_nulls(LanguageModelSource(tiny.save_tiny_lm(tmp_path, dtype="bfloat16"), "model.layers.0"))
    assert source.capture(INPUTS)[0].dtype == torch.bfloat16
    for part in source.widths:
        assert source.replace(INPUTS, lambda x: x.float(), part).dtype == torch.bfloat16


def test_several_hooks_are_refused(tiny_lm):
    hooks = LanguageModelSource(tiny_lm, {"early": "model.layers.0", "late": "model.layers.1"})
    with pytest.raises(ValueError, match=r"nulls=rotated beside several hooks \(early, late\): expected one hook"):
        NullSource(hooks, {"rotated": RandomRotation()}, lambda n: torch.zeros(n, 32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: beside(Reinitialised()), "Reinitialised needs a model, and these data have none"),
        (lambda: beside(RandomRotation(), "a/b"), "the name 'a/b' becomes a folder"),
        (lambda: beside(RandomRotation(), ""), "the name '' becomes a folder"),
        (
            lambda: GaussianMatched(samples_per_dimension=1),
            "samples_per_dimension=1: expected a whole number, 2 or more",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_nulls_of_several_hooks_are_of_all_of_them_together(tiny_lm):
    hooks = {"read": "model.layers.1.post_attention_layernorm", "answer": "model.layers.1.mlp"}
    model = LanguageModelSource(tiny_lm, hooks)
    nulls = {
        "gaussian": GaussianMatched(),
        "shuffled": ShuffledHooks(),
        "redrawn": RedrawnModules([hooks["answer"]], 1),
    }
    x = torch.randn(4000, 2 * model.widths["read"], generator=torch.Generator().manual_seed(0))
    x[:, 16:] = x[:, :16].roll(1, 1) + 0.1 * x[:, 16:]
    source = NullSource(model, nulls, lambda n: x[:n])
    assert list(source.widths) == ["read", "answer", *(f"{null}_{hook}" for null in nulls for hook in hooks)]
    assert source.noise_parts == ("gaussian_read", "gaussian_answer", "shuffled_read", "shuffled_answer")
    activations, valid = source.capture(INPUTS)
    parts = dict(zip(source.widths, activations[valid].split(list(source.widths.values()), 1), strict=True))

    noise = source.nulls["gaussian"].draw(x, torch.Generator().manual_seed(1))
    torch.testing.assert_close(noise.T.cov(), x.T.cov(), atol=0.15, rtol=0)
    assert torch.equal(parts["shuffled_read"], parts["read"])
    assert not torch.equal(parts["shuffled_answer"], parts["answer"])
    assert torch.equal(parts["shuffled_answer"].sort(0).values, parts["answer"].sort(0).values)
    redrawn = source.nulls["redrawn"]._source.model
    assert torch.equal(parts["redrawn_read"], parts["read"])
    mlp = redrawn.get_submodule(hooks["answer"])
    torch.testing.assert_close(parts["redrawn_answer"], mlp(parts["read"]))
    assert not torch.equal(mlp.up_proj.weight, model.model.get_submodule(hooks["answer"]).up_proj.weight)
    assert redrawn.lm_head.weight.data_ptr() == model.model.lm_head.weight.data_ptr(), "shared, not copied"

    with pytest.raises(ValueError, match="no hook is edited alone"):
        source.replace(INPUTS, torch.zeros_like, "redrawn_answer")
    with pytest.raises(ValueError, match="RedrawnModules: .* has no submodule model.layers.9.mlp with weights"):
        NullSource(model, {"redrawn": RedrawnModules(["model.layers.9.mlp"])}, lambda n: x[:n])
    with pytest.raises(ValueError, match="ShuffledHooks shuffles several hooks"):
        beside(ShuffledHooks())
