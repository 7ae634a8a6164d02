"""Activations of any transformers checkpoint, at the input or output of any of its submodules."""

import inspect
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from typing_extensions import override

from sae_lightning.cpu_settings import slowness
from sae_lightning.sources.checkpoint import load_model, redrawn
from sae_lightning.sources.hooked import HookedModel, hooks_by_name
from sae_lightning.sources.tokens import TokenBatch
from sae_lightning.submodules import Visit

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
SLOW = 2.0
"""A product in the model's number format takes more than this many times as long as in float32, and a run says so."""


class LanguageModelSource(HookedModel):
    """A language model and a submodule of it, or several that are read in one forward.

    The model is loaded by the auto class of transformers that its configuration's `architectures` belongs to: causal
    language models, encoder-decoders, masked models and multimodal models with their head, all others without one. Its
    outputs are logits [batch, seq, vocabulary], or the last hidden states of a model without a head. Of an
    encoder-decoder both halves read the same tokens, and a multimodal model reads text alone.

    Args:
        model: folder of a transformers checkpoint, its name on the hub, or a GGUF file (or the folder of one).
        hook: dotted name of a submodule, as `sae hooks MODEL` lists them, for example model.layers.2; for several, a
            mapping from names of your choice to submodules, for example {early: model.layers.1, late: model.layers.3}.
        hook_input: read the input of the submodule instead of its output. Default: false.
        revision: branch, tag or commit on the hub. Default: its main branch.
        dtype: number format of the model; auto is the one it is stored in. A CPU may multiply bfloat16 and float16 ten
            times more slowly than float32, and then a run says so.

    Attributes:
        kind: what the checkpoint is.
        vocabulary: number of tokens.
    """

    model: Any  # a PreTrainedModel, whose methods transformers types loosely
    library = "transformers"
    reads = "tokens"
    is_language_model = True
    list_hooks = "sae hooks {name}"

    def __init__(
        self,
        model: str,
        hook: str | dict[str, str],
        hook_input: bool = False,
        revision: str | None = None,
        dtype: Dtype = "auto",
    ) -> None:
        hooks_by_name(hook)  # a mistake in the names ends here, before the model is loaded
        loaded: Any
        loaded, self.kind = load_model(model, revision, dtype)
        self.revision = getattr(loaded.config, "_commit_hash", None) or revision
        self.vocabulary = loaded.get_input_embeddings().num_embeddings
        parameters = inspect.signature(loaded.forward).parameters
        self._reads_target = "decoder_input_ids" in parameters
        self._takes_positions = "logits_to_keep" in parameters
        self._has_cache = hasattr(loaded.config, "use_cache")
        super().__init__(loaded, model, hook, hook_input)
        self._is_speed_known = self.model.dtype == torch.float32

    @property
    @override
    def device(self) -> torch.device:
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def max_length(self) -> int | None:
        """The most tokens that the model can read in a row; None if it sets no limit."""
        limit: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for name, module in self.model.named_modules():
            # RoBERTa counts positions from the one after its padding token's
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                limit = module.num_embeddings - module.padding_idx - 1
        return limit

    @cached_property
    def no_next_token(self) -> str:
        """Why the outputs are no logits of the next token; empty where they are.

        The kind of the checkpoint says so, and the model itself: where a later token changes the logits before it, as
        in a BertLMHeadModel that was not made a decoder, these have seen what they would have to predict.
        """
        name = type(self.model).__name__
        if self.kind.no_next_token:
            return f"a {name} is {self.kind.no_next_token}"
        with torch.no_grad():
            rows = self.outputs(self.forward(self.example())).float()
        if rows.shape[:2] != (2, 5):
            return f"the outputs of {name} have shape {list(rows.shape)} for 2 rows of 5 tokens"
        change, scale = (rows[0, :-1] - rows[1, :-1]).abs().max(), rows.abs().max()
        tolerance = max(1e-5, 4 * torch.finfo(self.model.dtype).eps)
        return f"this {name} sees the tokens after the one that it reads" if change > tolerance * scale else ""

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        return super().describe(part) | {"revision": self.revision}

    @override
    def example(self) -> TokenBatch:
        """Return two rows that differ in their last token; no size of a model is likely to be 2 or 5 by chance."""
        ids = torch.arange(5).expand(2, 5).clone()
        ids[1, -1] += 1
        return TokenBatch(ids % self.vocabulary, torch.ones(2, 5, dtype=torch.bool))

    @override
    def forward(self, inputs: TokenBatch) -> Any:
        """Run the model and return the outputs object of transformers.

        Raises:
            ValueError: if a token is not in the model's vocabulary.
        """
        ids = inputs.input_ids
        if not ids.is_cuda and int(ids.max()) >= self.vocabulary:  # on an accelerator the check would wait for it
            raise ValueError(
                f"the tokenizer made token {int(ids.max())}, but {self.name} has a vocabulary of {self.vocabulary}: "
                "give the tokenizer that belongs to the model"
            )
        ids = ids.to(self.device)
        arguments: dict[str, Any] = {"use_cache": False} if self._has_cache else {}
        if self._reads_target:
            arguments["decoder_input_ids"] = ids
        if self._takes_positions and inputs.positions is not None:
            arguments["logits_to_keep"] = inputs.positions.to(self.device)
        return self.model(input_ids=ids, **arguments)

    @override
    def capture(self, inputs: TokenBatch) -> tuple[Float[Tensor, "batch seq d_in"], Bool[Tensor, "batch seq"]]:
        if not self._is_speed_known:  # it was not asked for an example, since the model may move to another device yet
            self._say_slowness()
        return super().capture(inputs)

    def _say_slowness(self) -> None:
        """Warn once of a number format in which this CPU is slow; the stored one stays, and with it every number."""
        self._is_speed_known = True
        dtype = self.model.dtype
        if self.device.type == "cpu" and (times := slowness(dtype)) > SLOW:
            name = str(dtype).removeprefix("torch.")
            rank_zero_warn(
                f"model={self.name} runs in {name}, in which this CPU takes {times:.0f} times as long as in float32: "
                f"with data.dtype=float32 it has the same weights, activations without the rounding of {name}, and "
                "takes twice the memory"
            )

    @override
    def outputs(self, outputs: Any) -> Float[Tensor, "batch seq vocabulary"]:
        return outputs.logits if "logits" in outputs else outputs[0]

    @override
    def _why_unusable(self, module: nn.Module, seen: Visit, outputs: Any) -> str:
        if reason := super()._why_unusable(module, seen, outputs):
            return reason
        if self.hook_input or "logits" not in outputs or seen.tensor is None:
            return ""
        same = seen.tensor.shape == outputs.logits.shape and torch.equal(seen.tensor, outputs.logits)
        if same or module is self.model.get_output_embeddings():
            return (
                f"its output is the logits, a number for each of {seen.tensor.shape[-1]} tokens (with hook_input: true "
                "it is what goes into the head)"
            )
        return ""

    @override
    def redrawn(self, seed: int, embeddings: bool) -> "LanguageModelSource":
        return self.on(redrawn(self.model, seed, embeddings))
