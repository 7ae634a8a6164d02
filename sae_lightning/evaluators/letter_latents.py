"""The main latents of first letters, and what other latents have absorbed of them; see `Absorption`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import csr_matrix, vstack
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.metrics.absorption import absorption_fraction, is_fully_absorbed
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.probing.k_sparse import f1_score, main_columns
from sae_lightning.probing.letters import MIN_LETTERS, LetterWords
from sae_lightning.probing.probe import LinearProbe
from sae_lightning.saes.base import SparseAutoencoder

MIN_F1 = 0.6
"""F1 score of a probe on held-out words from which on the activations tell a letter; that of SAEBench."""
_LARGEST_CHANCE = 0.05
_WORDS_AT_ONCE = 1024


@dataclass(frozen=True)
class Probed:
    """Words, and probes on what one part of the activations tells of their letters.

    Args:
        words: with the activations of the part alone.
        probes: by letter, without those that the activations do not tell.
        f1: of these probes on held-out words.
        recognised: by letter, the held-out words with it for which its probe answers yes, as row numbers.
    """

    words: LetterWords
    probes: Mapping[str, LinearProbe]
    f1: Mapping[str, float]
    recognised: Mapping[str, Int64[np.ndarray, " n"]]

    @classmethod
    def fit(cls, words: LetterWords) -> "Probed":
        """Fit a probe for each letter and keep those that tell it."""
        x, is_test = words.activations.numpy(), words.is_test
        probes, f1, recognised = {}, {}, {}
        for letter in words.alphabet:
            positive = words.letters == letter
            probe = LinearProbe.fit(x[~is_test], positive[~is_test])
            answers = probe.logits(x) > 0
            score = f1_score(answers[is_test], positive[is_test])
            if score >= MIN_F1:
                probes[letter], f1[letter] = probe, score
                recognised[letter] = np.flatnonzero(is_test & positive & answers)
        return cls(words, probes, f1, recognised)

    @property
    def has_letters(self) -> bool:
        """Whether the activations tell enough letters for a statement."""
        return len(self.probes) >= MIN_LETTERS

    def weights(self) -> Float[np.ndarray, " n_recognised"]:
        """Return the weight of each recognised word in a mean over the words of a letter, then over letters."""
        numbers = [len(rows) for rows in self.recognised.values()]
        return np.repeat([1 / (n * len(numbers)) for n in numbers], numbers)

    def names(self) -> list[str]:
        """Return the recognised words."""
        return [self.words.words[row] for rows in self.recognised.values() for row in rows]


@dataclass(frozen=True)
class WordLatents:
    """Latents at words.

    Args:
        values: [n_words, d_sae].
        scales: [n_words] by which a latent's decoder direction is multiplied beside its value.
        directions: [d_sae, d_in] decoder directions.
    """

    values: csr_matrix
    scales: Float[np.ndarray, " n_words"]
    directions: Float[Tensor, "d_sae d_in"]

    @classmethod
    @torch.no_grad()
    def of_sae(cls, sae: SparseAutoencoder, x: Float[Tensor, "n_words d_in"]) -> "WordLatents":
        """Encode activations."""
        values, scales = [], []
        for some in x.split(_WORDS_AT_ONCE):
            code = sae.encode(some.to(sae.W_dec.device))
            values.append(_csr(code.values, code.indices, code.offsets, sae.d_sae))
            norm = torch.ones(len(some)) if code.row_norm is None else code.row_norm.scale[:, 0].cpu()
            scales.append((norm / sae.input_scale.cpu()).numpy())
        return cls(csr_matrix(vstack(values)), np.concatenate(scales), sae.W_dec.detach().float().cpu())

    @classmethod
    def at_random(cls, d_sae: int, k: int, x: Float[Tensor, "n_words d_in"]) -> "WordLatents":
        """Take random directions, of which the k largest projections of an activation, less the mean, are latents.

        One number scales them all, so that they reconstruct the activations as well as they can: projections on
        directions that overlap add up to too much, and what each adds would be too large a share.
        """
        directions, centred, values = random_dictionary(d_sae, x.shape[1]), x - x.mean(0), []
        for some in centred.split(_WORDS_AT_ONCE):
            top = (some @ directions.T).topk(k)
            offsets = torch.arange(len(some) + 1) * k
            values.append(_csr(top.values.relu().flatten(), top.indices.flatten(), offsets, d_sae))
        latents = csr_matrix(vstack(values))
        x_hat = latents @ directions.numpy()
        scale = float((x_hat * centred.numpy()).sum() / max(np.square(x_hat).sum(), 1e-30))
        return cls(latents, np.full(len(x), scale), directions)

    @property
    def l0(self) -> float:
        """Mean number of latents that fire on a word."""
        return self.values.count_nonzero() / self.values.shape[0]


@dataclass(frozen=True)
class LetterScores:
    """What the main latents of the letters do; letters and words are those of `Probed`, in order.

    Args:
        f1: [n_letters] of probes on the main latents.
        n_main: [n_letters] main latents.
        fraction: [n_recognised] absorption fraction of the words.
        is_full: [n_recognised] 1 where a letter is fully absorbed, else 0.
    """

    f1: Float[np.ndarray, " n_letters"]
    n_main: Float[np.ndarray, " n_letters"]
    fraction: Float[np.ndarray, " n_recognised"]
    is_full: Float[np.ndarray, " n_recognised"]

    def is_above(self, chance: "LetterScores") -> bool:
        """Return whether the main latents tell more letters better than others do than chance allows (sign test)."""
        from scipy.stats import binomtest

        n_better = int((self.f1 > chance.f1).sum())
        return n_better > 0 and bool(binomtest(n_better, len(self.f1), alternative="greater").pvalue < _LARGEST_CHANCE)


def letter_scores(probed: Probed, latents: WordLatents, max_k: int) -> LetterScores:
    """Find the main latents of each letter, and what others have absorbed of them.

    Args:
        probed: words and probes.
        latents: at these words.
        max_k: main latents of a letter at most.
    """
    words, letters = probed.words, list(probed.probes)
    main = main_columns(latents.values, words.letters, words.is_test, letters, max_k)
    unit_directions = normalize(latents.directions, dim=1)
    fractions, full = [np.zeros(0)], [np.zeros(0)]
    for letter, own in zip(letters, main, strict=True):
        rows, direction = probed.recognised[letter], torch.from_numpy(probed.probes[letter].direction).float()
        values = torch.from_numpy(latents.values[rows].toarray()).float()
        scales = torch.from_numpy(latents.scales[rows]).float()
        contributions = values * scales[:, None] * (latents.directions @ direction)
        cosines, projections = unit_directions @ direction, words.activations[rows] @ direction
        columns = torch.from_numpy(own.columns)
        main_fires = (values[:, columns] != 0).any(1)
        fractions.append(absorption_fraction(contributions, cosines, projections, columns).numpy())
        full.append(is_fully_absorbed(contributions, cosines, projections, main_fires).numpy().astype(float))
    return LetterScores(
        np.array([each.f1 for each in main]),
        np.array([len(each.columns) for each in main], dtype=float),
        np.concatenate(fractions),
        np.concatenate(full),
    )


def _csr(values: Tensor, indices: Tensor, offsets: Tensor, d_sae: int) -> csr_matrix:
    parts = (part.detach().cpu().numpy() for part in (values, indices, offsets))
    return csr_matrix(tuple(parts), (len(offsets) - 1, d_sae))
