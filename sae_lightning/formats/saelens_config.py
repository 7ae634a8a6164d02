"""What the JSON files of a folder of SAELens say, by the names of its version 6, older ones too."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor

from sae_lightning.formats.centring import is_centred
from sae_lightning.formats.place import Place

CONFIG = "cfg.json"
VARIANTS = {
    "standard": "ReLU",
    "topk": "TopK",
    "batchtopk": "BatchTopK",
    "matryoshka_batchtopk": "MatryoshkaBatchTopK",
    "jumprelu": "JumpReLU",
    "gated": "Gated",
}
BATCH = ("BatchTopK", "MatryoshkaBatchTopK")
"""Variants with one threshold, which are exported as jumprelu."""
INPUT_NORMS = {"none": None, "layer_norm": "layer_norm", "constant_norm_rescale": "unit_norm"}
SCALED, WHITENED = "expected_average_only_in", "covariance_whitening"
"""Normalizations of the whole data, which are folded into the weights at the end of training."""
TRANSCODERS = {
    "transcoder": ("ReLU", False),
    "skip_transcoder": ("ReLU", True),
    "jumprelu_transcoder": ("JumpReLU", False),
    "jumprelu_skip_transcoder": ("JumpReLU", True),
}
"""The variant of each, and whether it has a skip path."""
_NO_VARIANT = {
    "clt": "a cross-layer transcoder, which predicts the activations of many layers",
    "crosscoder": "a crosscoder, which reconstructs activations of several layers or models at once",
    "temporal": "a temporal SAE, whose latents depend on the tokens before",
    "matching_pursuit": "a matching-pursuit SAE, which picks latents one after another",
    "abstopk": "an AbsTopK, which keeps the largest magnitudes, negative latents too",
}
_BEFORE_6 = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}


class SAELensConfig:
    """What is said of an SAE; what is not, and is assumed by the user, is noted in `used`.

    Args:
        place: a folder with `cfg.json`, perhaps `runner_cfg.json` and the files of a training checkpoint.
        assumed: what the user says.

    Raises:
        ValueError: if this library has no such variant, or cannot express how activations are normalised.
    """

    def __init__(self, place: Place, assumed: Mapping[str, Any]) -> None:
        self.place, self.assumed, self.used = place, assumed, set[str]()
        config = place.config(CONFIG)
        metadata = _mapping(config.get("metadata"))
        runner = place.config("runner_cfg.json")
        self.details = _mapping(metadata.get("training_architecture_details"))
        self.config = {_BEFORE_6.get(name, name): value for name, value in config.items()}
        self.said = {**_mapping(runner.get("sae")), **runner, **self.details, **self.config, **metadata}
        self.runner_norm = _mapping(runner.get("sae")).get("normalize_activations")
        version = metadata.get("sae_lens_version") or self.said.get("sae_lens_training_version")
        self.version = None if version is None else str(version)
        self.architecture = self._architecture()
        self.is_transcoder = self.architecture in TRANSCODERS
        of_transcoder, self.skip = TRANSCODERS.get(self.architecture, ("", False))
        self.variant = VARIANTS.get(self.architecture, of_transcoder)
        self.ranks_by_norm = bool(self.config.get("rescale_acts_by_decoder_norm"))
        self.subtracts_b_dec = bool(self.config.get("apply_b_dec_to_input", True))
        self.normalization = self._normalization()
        self._check_sizes()
        self._refuse_other_kinds()

    def _architecture(self) -> str:
        architecture = str(self.config.get("architecture", "standard"))
        activation = self.config.get("activation_fn") or "relu"
        if activation == "topk" and architecture == "standard":
            architecture = "topk"
        elif activation not in ("relu", "topk"):
            raise ValueError(
                f"{self.place}: activation_fn is {activation}, and this library has no variant for it: expected relu "
                "or topk"
            )
        if VARIANTS.get(architecture) in BATCH and self.assumed.get("variant") == "ReLU":
            self.used.add("variant")
            return "standard"
        return architecture

    def _normalization(self) -> str:
        said = self.config.get("normalize_activations")
        if isinstance(said, bool) or said is None:
            said = SCALED if said else "none"
        if said not in (*INPUT_NORMS, SCALED, WHITENED):
            raise ValueError(
                f"{self.place}: normalize_activations is {said}, which this library cannot express: expected one of "
                f"{', '.join((*INPUT_NORMS, SCALED, WHITENED))}"
            )
        return said

    def _check_sizes(self) -> None:
        for name in ("d_in", "d_sae", *(["d_out"] if self.is_transcoder else [])):
            if not isinstance(size := self.config.get(name), int) or size < 1:
                raise ValueError(f"{self.place}: {CONFIG} says {name}={size}: expected a whole number, 1 or more")

    def _refuse_other_kinds(self) -> None:
        hook, out = self.said.get("hook_name"), self.said.get("hook_name_out")
        d_in, d_out = self.config["d_in"], self.config.get("d_out", self.config["d_in"])
        if (kind := _NO_VARIANT.get(self.architecture)) is not None:
            raise ValueError(f"{self.place} is {kind}: this library has no variant for it")
        if not self.variant:
            raise ValueError(
                f"{self.place}: architecture is {self.architecture}, and this library has no variant for it: expected "
                f"one of {', '.join((*VARIANTS, *TRANSCODERS))}"
            )
        if not self.is_transcoder and (out not in (None, hook) or d_out != d_in):
            raise ValueError(
                f"{self.place} reads {hook} and answers at {out}, d_in={d_in} and d_out={d_out}, and its architecture "
                f"is {self.architecture}, that of an SAE: expected one of {', '.join(TRANSCODERS)}"
            )
        if self.is_transcoder and self.normalization != "none":
            raise ValueError(
                f"{self.place} is a transcoder with normalize_activations {self.normalization}, which has no way back "
                "for an answer at another place: expected none"
            )

    def scale(self) -> float | None:
        """Return what activations were multiplied by in training, unless that is folded in already.

        Raises:
            ValueError: if there is such a factor and the files do not say it, or they contradict each other.
        """
        factor = self.place.config("activation_scaler.json").get("scaling_factor")
        if self.normalization == SCALED and factor is None:
            raise ValueError(
                f"{self.place}: normalize_activations is {SCALED}, so its weights are for activations times a factor "
                "that the files do not say; expected it in activation_scaler.json. In SAELens call "
                "sae.fold_activation_norm_scaling_factor(FACTOR) and save the SAE again"
            )
        if self.normalization != SCALED and factor is not None:
            raise ValueError(
                f"{self.place}: activation_scaler.json says a scaling_factor of {factor} and {CONFIG} that "
                f"normalize_activations is {self.normalization}: the two files do not belong together"
            )
        if factor is not None and not (isinstance(factor, int | float) and 0 < factor < float("inf")):
            raise ValueError(
                f"{self.place}: activation_scaler.json says scaling_factor={factor}: expected a number above 0"
            )
        return None if factor is None else float(factor)

    def assumed_threshold(self) -> float:
        """Return the threshold that the user says.

        Raises:
            ValueError: if nobody does.
        """
        if "threshold" not in self.assumed:
            raise ValueError(
                f"{self.place}: this {self.variant} has no threshold, its training never set one (topk_threshold is "
                "0): assume threshold=VALUE, or variant=ReLU, which is what SAELens computes with it"
            )
        self.used.add("threshold")
        return float(self.assumed["threshold"])

    def input_norm(self) -> tuple[str | None, list[str]]:
        """Return how each activation is normalised, and what the user should know of that.

        Raises:
            ValueError: if it takes two norms, one after the other.
        """
        norm = INPUT_NORMS.get(self.normalization)
        if self.is_transcoder:
            return None, self._processed_weights()
        if norm is None and "input_norm" in self.assumed:
            self.used.add("input_norm")
            return self.assumed["input_norm"], []
        centred = is_centred(self.said, self._loaded_with_defaults())
        if norm == "layer_norm" or centred is False:
            return norm, []
        model = self.said.get("model_name")
        if centred is None:
            return norm, [
                f"SAELens loaded {model} with centred writing weights if it has LayerNorm and not RMSNorm: if so, "
                "assume input_norm=center"
            ]
        if norm is not None:
            raise ValueError(
                f"{self.place} takes activations of {model} with centred writing weights, normalised to one norm: this "
                "library can do one of both"
            )
        return "center", [
            f"trained on activations of {model} with centred writing weights, an option of TransformerLens: those of "
            "transformers differ by the mean over d_in, which this SAE subtracts; to centred ones that does nothing. "
            "If it was trained on activations as they are, assume input_norm=null"
        ]

    def _processed_weights(self) -> list[str]:
        """Say that the activations of a transcoder are of weights that TransformerLens has changed, where they are."""
        written = {**self.said, "hook_name": self.said.get("hook_name_out")}
        if not any(is_centred(said, self._loaded_with_defaults()) for said in (self.said, written)):
            return []
        return [
            f"trained on activations of {self.said.get('model_name')} with centred writing weights, an option of "
            "TransformerLens: those of transformers differ by the mean over d_in, for which a transcoder has no "
            "correction: measure it before relying on it"
        ]

    def _loaded_with_defaults(self) -> bool:
        """Return whether SAELens loaded the model as TransformerLens does by default, which it did before 4.0."""
        version = self.said.get("sae_lens_training_version")
        if version is None:
            return "hook_point" in self.place.config(CONFIG)  # a name that 3.0 changed
        return (number := _number(version)) is not None and number < (4, 0)

    def warnings(self, threshold: Tensor | None) -> list[str]:
        """Return what to know before relying on the SAE."""
        notes = []
        if self.config.get("reshape_activations") == "hook_z" or str(self.said.get("hook_name")).endswith("hook_z"):
            notes.append("takes the outputs of all heads of a layer side by side, before W_O")
            if self._loaded_with_defaults():
                notes.append(
                    "trained on a model whose value biases TransformerLens had folded into b_O: where the model has "
                    "value biases, raw activations differ by these"
                )
        if threshold is not None and bool((threshold == threshold.max()).all()) and self._may_have_lost_its_scale():
            notes.append(
                "SAELens before 6.54 exported a BatchTopK with a wrong threshold, off by the scale of the input, if it "
                f"was trained with {SCALED} and rescale_acts_by_decoder_norm: compare the l0 that you measure with k"
            )
        if self.trained_as() in BATCH and threshold is not None and not threshold.any():
            notes.append("its threshold is 0, so its training never set one: every positive pre-activation is a latent")
        return notes

    def _may_have_lost_its_scale(self) -> bool:
        version = _number(self.version)
        if version is None or version >= (6, 54) or self.normalization != "none":
            return False
        rescales = self.said.get("rescale_acts_by_decoder_norm", True)
        return bool(rescales) and self.runner_norm in (None, SCALED)

    def trained_as(self) -> str | None:
        """Return the variant that it was trained as, where that is another one."""
        trained_as = self.said.get("training_architecture")
        return None if trained_as == self.architecture else VARIANTS.get(str(trained_as))

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the variant.

        Raises:
            ValueError: if k or the widths are no such numbers.
        """
        if self.variant not in ("TopK", *BATCH):
            return {}
        settings: dict[str, Any] = {"k": self.k()}
        if self.variant == "MatryoshkaBatchTopK":
            settings["group_fractions"] = self._group_fractions()
        return settings

    def k(self) -> int:
        """Return the number of latents of a sample, on average where it is one of a batch.

        Raises:
            ValueError: if it is not said, and not assumed, or no such number.
        """
        d_sae = self.config["d_sae"]
        k = self.config.get("k", _mapping(self.config.get("activation_fn_kwargs")).get("k"))
        if k is None and "k" in self.assumed:
            k = self.assumed["k"]
            self.used.add("k")
        is_number = isinstance(k, int | float) and not isinstance(k, bool)
        if k is None or not is_number or not 1 <= k <= d_sae or (self.variant == "TopK" and k != int(k)):
            raise ValueError(f"{self.place}: {CONFIG} says k={k}: expected a whole number, 1 to d_sae={d_sae}")
        return round(k)

    def _group_fractions(self) -> list[float]:
        d_sae = self.config["d_sae"]
        widths = self.config.get("matryoshka_widths")
        if not isinstance(widths, list) or not all(isinstance(width, int) for width in widths):
            raise ValueError(f"{self.place}: {CONFIG} says matryoshka_widths={widths}: expected a list of numbers")
        ends = [0, *widths, *([d_sae] if widths[-1:] != [d_sae] else [])]
        if any(end <= start for start, end in pairwise(ends)):
            raise ValueError(
                f"{self.place}: {CONFIG} says matryoshka_widths={widths}: expected rising numbers up to d_sae={d_sae}"
            )
        return [(end - start) / d_sae for start, end in pairwise(ends)]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(version: object) -> tuple[int, int] | None:
    parts = re.match(r"(\d+)\.(\d+)", str(version))
    return (int(parts[1]), int(parts[2])) if parts else None
