"""`TransformersJudge`: an instruction-tuned model on this machine explains and judges."""

import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.interpretation.excerpts import Excerpt
from sae_lightning.interpretation.judge import Explanation
from sae_lightning.interpretation.prompts import PromptJudge
from sae_lightning.interpretation.tasks import InterpretationTask

_LONG_SECONDS = 60


class TransformersJudge(PromptJudge):
    """Ask a transformers checkpoint, on the GPU of the process if there is one. Answers are the likeliest tokens.

    It is loaded with the first question and kept beside the SAEs.

    Args:
        model: folder or GGUF file of an instruction-tuned checkpoint, or its name on the hub.
        revision: branch, tag or commit on the hub. Default: its main branch.
        dtype: number format of the model; auto is the one it is stored in.
        batch_size: questions in a forward, 1 or more.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_size: int = 16,
    ) -> None:
        check_whole(1, batch_size=batch_size)
        self.model, self.revision, self.dtype, self.batch_size = model, revision, dtype, batch_size
        self._n_questions = 0

    @override
    def check(self) -> None:
        """Check that the folder looks like a model's, and that by its configuration the model continues a prompt."""
        from sae_lightning.sources.checkpoint import load_kind

        if reason := load_kind(self.model, self.revision).no_next_token:
            raise ValueError(
                f"TransformersJudge: model={self.model} cannot continue a prompt: it is {reason}. Take an "
                "instruction-tuned causal language model"
            )

    @override
    def begin(self, tasks: Iterable[InterpretationTask]) -> bool:
        """Count the questions, so that it can be said how long all of them will take."""
        self._n_questions = sum(1 + len(task.judged) for task in tasks)
        return True

    @override
    def judge(self, explanation: Explanation, excerpts: Sequence[Excerpt]) -> list[bool | None]:
        begin, answers = time.monotonic(), super().judge(explanation, excerpts)
        seconds = (time.monotonic() - begin) / max(len(excerpts), 1) * self._n_questions
        if seconds > _LONG_SECONDS:
            rank_zero_info(
                f"TransformersJudge: about {seconds / 60:.0f} minutes for {self._n_questions} questions. Fewer latents "
                "(n_latents), fewer texts (n_judged) or a smaller model take less."
            )
        self._n_questions = 0  # it is said once
        return answers

    @override
    @torch.inference_mode()
    def ask(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        model, tokenizer = self._loaded
        answers: list[str] = []
        for begin in range(0, len(prompts), self.batch_size):
            texts = [self._as_chat(prompt) for prompt in prompts[begin : begin + self.batch_size]]
            inputs = tokenizer(
                texts, add_special_tokens=tokenizer.chat_template is None, padding=True, return_tensors="pt"
            ).to(model.device)
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
            answers += tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers

    def _as_chat(self, prompt: str) -> str:
        tokenizer = self._loaded[1]
        if tokenizer.chat_template is None:
            return f"{prompt}\n\nAnswer:"
        messages = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        from sae_lightning.sources.checkpoint import load_model, load_tokenizer

        model: Any
        model, _ = load_model(self.model, self.revision, self.dtype)
        tokenizer = load_tokenizer(self.model, self.revision)
        if not getattr(model, "can_generate", lambda: False)():
            raise ValueError(
                f"TransformersJudge: model={self.model} cannot generate text: take an instruction-tuned language model"
            )
        tokenizer.padding_side = "left"  # what is generated follows the prompt
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer
