"""Synthetic activations whose true features are known.

    x = sum_i b_i c_i f_i,    b_i ~ Bernoulli(p_i),    c_i ~ LogNormal(0, sigma),    all independent

with more unit features f_i than dimensions (Korznikov et al. 2026, arXiv 2602.14111, section 3). The paper leaves open
whether its 0.25 is sigma or the variance of log c; here `coefficient_sigma` is sigma. A `Dependence` makes the b_i of a
sample depend on each other; a `sample_norm` gives every sample the same norm.

For transcoders each feature has a second unit direction a_i, in the space of the answer, and beside x stands

    y = sum_i b_i c_i a_i

So what is read and what is answered are sums of the same few features, and a transcoder knows all when each feature has
a latent that reads f_i and writes a_i. With more features than dimensions no linear map does that: it cannot tell a
feature from the interference of others.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from sae_lightning.checks import check_above, check_between, check_seed, check_whole
from sae_lightning.code import Code
from sae_lightning.sources.base import ActivationSource
from sae_lightning.sources.dependence import Dependence, IndependentFirings
from sae_lightning.sources.probability import ConstantProbability, FiringProbability

_LARGEST_SIZE = 2**31
READ, ANSWER = "read", "answer"
"""Names of the parts of samples with an answer."""


class SyntheticSource(ActivationSource):
    """Sums of random features; batch `index` of a `stream` depends only on these two and the seed.

    With `d_answer` samples have two parts, `read` and `answer`, side by side, and `d_in` becomes the width of both.

    Args:
        firing_probability: how often each feature fires. Default: ConstantProbability(0.00625).
        d_in: width of an activation, in dimensions.
        n_features: number of true features.
        coefficient_sigma: standard deviation of the logarithm of a coefficient, at least 0.
        dependence: how the firings of the features depend on each other. Default: they are independent.
        sample_norm: scale the coefficients of every sample so that it has this norm, above 0. Default: as they are.
        seed: decides the features, their firing probabilities and every sample.
        d_answer: width of the answer, for transcoders. Default: none.

    Attributes:
        features: [n_features, d_in] unit rows; with an answer the unit directions of both parts side by side.
        firing_probabilities: [n_features] float64, how often each feature fires, whatever the dependence.
    """

    features: Tensor
    firing_probabilities: Tensor

    def __init__(
        self,
        firing_probability: FiringProbability | None = None,
        d_in: int = 100,
        n_features: int = 3200,
        coefficient_sigma: float = 0.25,
        dependence: Dependence | None = None,
        sample_norm: float | None = None,
        seed: int = 0,
        d_answer: int | None = None,
    ) -> None:
        check_whole(1, _LARGEST_SIZE, d_in=d_in, n_features=n_features)
        check_between(0, 10, coefficient_sigma=coefficient_sigma, hint="the deviation of a logarithm")
        if sample_norm is not None:
            check_above(0, sample_norm=sample_norm, hint=f"such as sqrt(d_in)={d_in**0.5:.3g}, or null")
        check_seed(seed=seed)
        self.sample_norm = sample_norm
        self.d_in, self.n_features, self.coefficient_sigma, self.seed = d_in, n_features, coefficient_sigma, seed
        self.features = self._unit_rows("features", n_features, d_in)
        if d_answer is not None:
            check_whole(1, _LARGEST_SIZE, d_answer=d_answer)
            self.features = torch.cat([self.features, self._unit_rows("answers", n_features, d_answer)], 1)
            self.d_in, self.widths = d_in + d_answer, {READ: d_in, ANSWER: d_answer}
        law = firing_probability or ConstantProbability()
        self.firing_probability, self.dependence = law, dependence
        probabilities = law.draw(n_features, self._rng("firing probabilities", 0))
        rng = self._rng("dependence", 0)
        self._firings = dependence.firings(probabilities, rng) if dependence else IndependentFirings(probabilities)
        self.firing_probabilities = torch.from_numpy(self._firings.probabilities)

    def _unit_rows(self, stream: str, n: int, d: int) -> Float[Tensor, "n d"]:
        normal = self._rng(stream, 0).standard_normal((n, d))
        return torch.from_numpy(normal / np.linalg.norm(normal, axis=1, keepdims=True)).float()

    def sample(self, n: int, index: int = 0, stream: str = "sample") -> tuple[Float[Tensor, "n d_in"], Code]:
        """Return batch `index` of a stream: n activations, and their true coefficients as a `Code` of n_features."""
        rng = self._rng(stream, index)
        firings = self._firings(rng, n)
        coefficients = rng.standard_normal(len(firings), dtype=np.float32)
        np.exp(coefficients * np.float32(self.coefficient_sigma), out=coefficients)
        code = Code.from_flat(torch.from_numpy(coefficients), torch.from_numpy(firings), n, self.n_features)
        x = self.decode(code)
        if self.sample_norm is None:
            return x, code
        scale = self.sample_norm / torch.linalg.vector_norm(x, dim=1).clamp_min(1e-12)
        return x * scale[:, None], code.with_values(code.values * scale[code.rows])

    def decode(self, code: Code) -> Float[Tensor, "n d_in"]:
        """Return the sums of features with these coefficients."""
        return F.embedding_bag(
            code.indices,
            self.features,
            code.offsets,
            mode="sum",
            per_sample_weights=code.values,
            include_last_offset=True,
        )

    @override
    def capture(
        self, inputs: Float[Tensor, "*batch d_in"]
    ) -> tuple[Float[Tensor, "*batch d_in"], Bool[Tensor, "*batch"]]:
        """Return the inputs themselves, all valid: no model precedes the hook."""
        return inputs, torch.ones(inputs.shape[:-1], dtype=torch.bool, device=inputs.device)

    @override
    def replace(
        self, inputs: Float[Tensor, "*batch d_in"], edit: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "*batch d_in"]:
        """Return the edited inputs themselves: no model follows the hook."""
        return edit(inputs)

    def _rng(self, stream: str, index: int) -> np.random.Generator:
        """Return the generator of batch `index` of a stream, without drawing the batches before it.

        Philox is counter-based: the key is a hash of (seed, stream), and the counter starts at index * 2^128, so
        batches do not overlap.
        """
        key = hashlib.blake2b(f"{self.seed} {stream}".encode(), digest_size=16).digest()
        counter = np.array([0, 0, index, 0], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype=np.uint64), counter=counter))
