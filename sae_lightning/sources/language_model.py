"""Activations of any transformers checkpoint, at the input or output of any of its submodules."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.sources.checkpoint import load_model, redrawn
from sae_lightning.sources.hooked import HookedModel, hooks_by_name
from sae_lightning.sources.tokens import TokenBatch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class LanguageModelSource(HookedModel):
    """A language model and a submodule of it, or several that are read in one forward.

    Its outputs are logits [batch, seq, vocabulary], or the last hidden states of a model without a head.

    Args:
        model: folder of a transformers checkpoint, or its name on the hub.
        hook: dotted name of a submodule, as in `named_modules()`, for example model.layers.2; for several, a mapping
            from names of your choice to submodules, for example {early: model.layers.1, late: model.layers.3}.
        hook_input: read the input of the submodule instead of its output. Default: false.
        revision: branch, tag or commit on the hub. Default: its main branch.
        dtype: number format of the model; auto is the one it is stored in.
    """

    model: Any  # a PreTrainedModel, whose methods transformers types loosely
    library = "transformers"
    predicts_tokens = True
    list_hooks = (
        'python -c "import transformers; [print(name) for name, _ in '
        "transformers.AutoModelForCausalLM.from_pretrained('{name}').named_modules()]\""
    )

    def __init__(
        self,
        model: str,
        hook: str | dict[str, str],
        hook_input: bool = False,
        revision: str | None = None,
        dtype: Dtype = "auto",
    ) -> None:
        hooks_by_name(hook)  # a mistake in the names ends here, before the model is loaded
        loaded: Any = load_model(model, revision, dtype)
        self.revision = getattr(loaded.config, "_commit_hash", None) or revision
        self.vocabulary: int = loaded.get_input_embeddings().num_embeddings
        super().__init__(loaded, model, hook, hook_input)

    @property
    @override
    def device(self) -> torch.device:
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        return super().describe(part) | {"revision": self.revision}

    @override
    def example(self) -> TokenBatch:
        return TokenBatch(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))

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
        no_cache = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        return self.model(input_ids=ids.to(self.device), **no_cache)

    @override
    def outputs(self, outputs: Any) -> Float[Tensor, "batch seq vocabulary"]:
        return outputs.logits if "logits" in outputs else outputs[0]

    @override
    def redrawn(self, seed: int, embeddings: bool) -> "LanguageModelSource":
        return self.on(redrawn(self.model, seed, embeddings))
