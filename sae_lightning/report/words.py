"""What metrics and policies are called on the page: plain words, and by what they ask."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sae_lightning.compare import POLICIES

RANDOM = ("frozen_decoder", "soft_frozen_decoder", "frozen_encoder")
"""The random baselines of Korznikov et al. 2026 (arXiv 2602.14111), of which the first screen speaks."""


@dataclass(frozen=True)
class Question:
    """What several metrics ask.

    Args:
        name: for links.
        text: the question.
        start: how the names of its metrics begin, a regular expression.
        headline: the metric of the first screen, chosen once for every run and never by its result.
    """

    name: str
    text: str
    start: str
    headline: str


OTHER = Question("other", "What else was measured?", "", "")
QUESTIONS = (
    Question("drift", "How far did decoder directions move from their start?", "cosine_to_start", ""),
    Question(
        "explain",
        "Does it explain the activations, sparsely?",
        "explained_variance|fvu|cosine|relative_norm|l0|dead_fraction",
        "explained_variance",
    ),
    Question("loss", "Does the model still work through it?", "ce_|kl_", "ce_recovered_mean"),
    Question(
        "recovery",
        "Does it find the true features?",
        "recovery_at|matched_cosine|mean_best_cosine|firing_|uniqueness",
        "recovery_at_0.8",
    ),
    Question("zero_shot", "Does the model still name what it sees?", "zero_shot_", "zero_shot_ce_recovered_mean"),
    Question("probing", "Do a few latents hold a concept?", "probe_", "probe_accuracy_k1"),
    Question("causal", "Does an edit change one fact and no other?", "causal_", "causal_score"),
    Question("editing", "Does an edit change one attribute and no other?", "attribute_", "attribute_score"),
    Question(
        "concepts",
        "Have the pictures of a latent something in common?",
        "concept_|class_entropy|top_similarity",
        "concept_purity",
    ),
    Question("interpretation", "Can one tell from texts when a latent fires?", "interp_", "interp_accuracy"),
    Question("seeds", "Do two seeds find the same latents?", "seed_", ""),
    Question("meta", "Are latents made of meta-latents?", "meta_|pursuit_|base_|steering_", ""),
)

_LABELS = (
    ("explained_variance", "Explained variance"),
    ("explained_variance_beyond_gaussian", "Explained variance beyond Gaussian noise"),
    ("fvu", "Fraction of variance unexplained"),
    ("cosine", "Cosine of activation and reconstruction"),
    ("relative_norm", "Norm of the reconstruction, relative"),
    ("l0", "Active latents a sample"),
    ("dead_fraction", "Dead latents"),
    ("ce_(reconstruction|clean|zero|mean)", r"Cross-entropy, \1 (nats)"),
    ("kl_(reconstruction|zero|mean)", r"KL divergence, \1 (nats)"),
    ("ce_recovered_(zero|mean)", r"Loss recovered, over \1 ablation"),
    ("kl_recovered_(zero|mean)", r"Predictions recovered (KL), over \1 ablation"),
    ("recovery_at_(.+)", r"True features recovered (cosine above \1)"),
    ("mean_best_cosine", "Nearest direction to each true feature (cosine)"),
    ("mean_best_cosine_absolute", "Nearest direction of either sign to each true feature (cosine)"),
    ("matched_cosine", "True features matched one to one (cosine)"),
    ("matched_cosine_absolute", "True features matched one to one, either sign (cosine)"),
    ("firing_(precision|recall|f1)", r"Fires when its feature does (\1)"),
    ("uniqueness", "Distinct features a latent"),
    ("probe_accuracy_k1", "Probe on the best single latent, accuracy"),
    ("probe_accuracy_k(.+)", r"Probe on the best \1 latents, accuracy"),
    ("probe_accuracy_ood_k1", "Probe on one latent, other data than it was fitted on"),
    ("probe_accuracy_ood_k(.+)", r"Probe on \1 latents, other data than it was fitted on"),
    ("probe_auroc_k(.+)", r"Probe on \1 latents, AUROC"),
    ("probe_auroc_ood_k(.+)", r"Probe on \1 latents, AUROC on other data"),
    ("probe_reconstruction_(accuracy|auroc)", r"Dense probe on the reconstruction, \1"),
    ("probe_reconstruction_(accuracy|auroc)_ood", r"Dense probe on the reconstruction of other data, \1"),
    ("causal_cause", "An edit changes the fact it should"),
    ("causal_isolation", "An edit leaves other facts alone"),
    ("causal_score", "Edits: mean of cause and isolation"),
    ("zero_shot_ce_recovered_(zero|mean)", r"Zero-shot loss recovered, over \1 ablation"),
    ("zero_shot_recovered_(zero|mean)", r"Zero-shot accuracy recovered, over \1 ablation"),
    ("zero_shot_accuracy", "Zero-shot accuracy through the reconstruction"),
    ("zero_shot_accuracy_(.+)", r"Zero-shot accuracy, \1"),
    ("zero_shot_(clean|zero|mean)", r"Zero-shot accuracy of the model, \1"),
    ("attribute_cause", "An edit changes the attribute it should"),
    ("attribute_isolation", "An edit leaves other attributes alone"),
    ("attribute_score", "Edits of attributes: mean of cause and isolation"),
    ("attribute_score_(.+)", r"Edits of \1: mean of cause and isolation"),
    ("concept_purity", "Purity of the pictures on which a latent fires most"),
    ("concept_purity_matched", "The same, at equal firing frequency"),
    ("class_entropy", "Entropy of their best attribute"),
    ("top_similarity", "Similarity of these pictures in pixels, above random pairs"),
    ("concept_eligible_fraction", "Latents that could be sampled"),
    ("concept_scored_fraction", "Sampled latents with enough pictures"),
    ("concept_median_frequency", "Firing frequency of the scored latents, median"),
    ("steering_selectivity", "Steering moves one attribute and no other"),
    ("interp_accuracy", "Explanations predict where latents fire, accuracy"),
    ("interp_accuracy_weighted", "Explanations predict, weighted by firing frequency"),
    ("interp_share_above_(.+)", r"Latents explained with an accuracy above \1"),
    ("interp_alive_fraction", "Latents that could be sampled"),
    ("interp_dense_fraction", "Latents that fire on over 10 % of tokens"),
    ("seed_pw_mcc", "Latents of two seeds matched one to one (absolute cosine)"),
    ("seed_matched_cosine", "Latents of two seeds matched one to one (signed cosine)"),
    ("seed_matched_cosine_encoder", "Latents of two seeds matched, encoder directions (cosine)"),
    ("seed_shared_fraction", "Latents that have a partner"),
    ("seed_mmcs", "Nearest latent of the other seed (cosine)"),
    ("seed_mmcs_absolute", "Nearest latent of the other seed, either sign (cosine)"),
    ("cosine_to_start_(mean|median|min)", r"Cosine of directions to their start, \1"),
    ("cosine_to_start_q10", "Cosine of directions to their start, lowest tenth"),
    ("meta_best_cosine_(.+)", r"Nearest latent of the SAE with \1 to each meta-latent (cosine)"),
    ("meta_share_above_(.+)_(.+)", r"Meta-latents that are latents of the SAE with \2 (cosine above \1)"),
    ("pursuit_explained_variance", "Directions explained by pursuit with meta-latents"),
    ("pursuit_explained_variance_(.+)", r"Directions explained by pursuit with latents of the SAE with \1"),
    ("base_nearest_cosine", "Nearest other direction of the base (cosine)"),
)

_POLICY_LABELS = {"trained": "Trained SAE"} | {name: name.replace("_", " ").title() for name in RANDOM}
_POLICY_LABELS["soft_frozen_decoder"] = "Soft-Frozen Decoder"


def label(metric: str) -> str:
    """A metric in plain words.

    >>> label("probe_accuracy_k5@early")
    'Probe on the best 5 latents, accuracy (early)'
    >>> label("of_my_own")
    'Of my own'
    """
    name, _, part = metric.partition("@")
    found = next((re.sub(of, text, name) for of, text in _LABELS if re.fullmatch(of, name)), None)
    plain = name.replace("_", " ")
    return (found or plain[:1].upper() + plain[1:]) + (f" ({part})" if part else "")


def policy_label(policy: str) -> str:
    """A policy or reference in plain words.

    >>> policy_label("soft_frozen_decoder"), policy_label("dense_probe")
    ('Soft-Frozen Decoder', 'dense probe')
    """
    return _POLICY_LABELS.get(policy, policy.replace("_", " "))


def question_of(metric: str) -> Question:
    """What a metric asks."""
    return next((question for question in QUESTIONS if re.match(question.start, metric)), OTHER)


def by_question(metrics: Iterable[str]) -> dict[Question, list[str]]:
    """Metrics sorted by what they ask, in the order of the page."""
    found: dict[Question, list[str]] = {question: [] for question in (*QUESTIONS[1:], QUESTIONS[0], OTHER)}
    for metric in metrics:
        found[question_of(metric)].append(metric)
    return {question: of for question, of in found.items() if of}


def in_order(policies: Iterable[str]) -> list[str]:
    """Policies in the order of every chart and table: trained, the baselines, then references by name."""
    rank = {policy: number for number, policy in enumerate(POLICIES)}
    return sorted(dict.fromkeys(policies), key=lambda policy: (rank.get(policy, len(rank)), policy))


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
