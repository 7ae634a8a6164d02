"""`ChatJudge`: a language model behind an OpenAI-compatible server explains and judges."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_info
from typing_extensions import override

from sae_lightning.checks import check_above, check_at_least, check_whole
from sae_lightning.interpretation.chat_client import AnswerFile, ChatClient
from sae_lightning.interpretation.judge import Explanation
from sae_lightning.interpretation.prompts import (
    ANSWER_TOKENS,
    EXPLANATION_TOKENS,
    PromptJudge,
    explanation_prompt,
    judgement_prompt,
    read_explanation,
)
from sae_lightning.interpretation.tasks import InterpretationTask

_CHARACTERS_PER_TOKEN = 4
_TOKENS_AROUND_A_MESSAGE = 10
_TYPICAL_EXPLANATION_TOKENS, _TYPICAL_ANSWER_TOKENS = 40, 2


class ChatJudge(PromptJudge):
    """Ask a server that speaks OpenAI's chat protocol: OpenAI, vLLM, llama.cpp, Ollama and others.

    Before the first question it prints how many it will ask and, where prices are given, what they will cost: prompts
    at 4 characters a token, answers at their usual length. Answers are kept on disk, so that a run that is repeated, or
    resumed after a failure, asks only what is new.

    Args:
        model: name that the server knows.
        base_url: of the server, up to and without /chat/completions, for example http://localhost:8000/v1.
        key_variable: environment variable that holds the key; empty for a server without keys.
        input_price: dollars for a million tokens of prompts. Default: not known.
        output_price: dollars for a million tokens of answers. Default: not known.
        dry_run: print what it would cost, and ask nothing.
        n_parallel: requests at a time, 1 or more.
        timeout_seconds: how long one request may take.
        retries: further tries when the server is busy, fails or does not answer in time.
        cache: folder of the answers.
        request: further fields of each request, for example {temperature: 0}; one that is null is left out, also
            max_tokens, which else is 100 for explanations and 10 for answers.
    """

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        key_variable: str = "OPENAI_API_KEY",
        input_price: float | None = None,
        output_price: float | None = None,
        dry_run: bool = False,
        n_parallel: int = 8,
        timeout_seconds: float = 60.0,
        retries: int = 6,
        cache: str = "data/cache/chat_judge",
        request: dict[str, Any] | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"base_url={base_url}: expected http://... or https://..., such as https://api.openai.com/v1"
            )
        check_whole(1, n_parallel=n_parallel)
        check_whole(0, retries=retries)
        check_above(0, timeout_seconds=timeout_seconds)
        if (input_price is None) != (output_price is None):
            raise ValueError(f"input_price={input_price}, output_price={output_price}: expected both prices or none")
        if input_price is not None:
            check_at_least(0, input_price=input_price, output_price=output_price)
        self.model, self.base_url, self.key_variable = model, base_url, key_variable
        self.input_price, self.output_price, self.dry_run = input_price, output_price, dry_run
        self.n_parallel, self.timeout_seconds, self.retries = n_parallel, timeout_seconds, retries
        self.cache, self.request = cache, {"temperature": 0} if request is None else request

    @override
    def check(self) -> None:
        """Check that there is a key, unless nothing is asked."""
        if self.key_variable and not self.dry_run and not os.environ.get(self.key_variable):
            raise ValueError(
                f"ChatJudge: the environment variable {self.key_variable} is not set: put the key of {self.base_url} "
                'into it, name another with key_variable, or set key_variable to "" for a server without keys'
            )

    @override
    def begin(self, tasks: Iterable[InterpretationTask]) -> bool:
        """Print how many questions will be asked and what they cost."""
        n_latents = n_prompts = n_kept = input_tokens = output_tokens = 0
        for task in tasks:
            n_latents += 1
            to_explain = explanation_prompt(task.shown)
            kept = self._answers.get(self._body(to_explain, EXPLANATION_TOKENS))
            # An explanation that is not there yet is replaced by one of typical length.
            explanation = Explanation("x" * _CHARACTERS_PER_TOKEN * _TYPICAL_EXPLANATION_TOKENS)
            explanation = explanation if kept is None else read_explanation(kept)
            prompts = [(to_explain, EXPLANATION_TOKENS, _TYPICAL_EXPLANATION_TOKENS)]
            prompts += [
                (judgement_prompt(explanation, excerpt), ANSWER_TOKENS, _TYPICAL_ANSWER_TOKENS)
                for excerpt in task.judged
            ]
            for prompt, max_tokens, typical in prompts:
                n_prompts += 1
                if self._answers.get(self._body(prompt, max_tokens)) is not None:
                    n_kept += 1
                    continue
                input_tokens += len(prompt) // _CHARACTERS_PER_TOKEN + _TOKENS_AROUND_A_MESSAGE
                output_tokens += typical
        cost = "no prices are given"
        if self.input_price is not None and self.output_price is not None:
            dollars = (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6
            cost = f"about ${dollars:.2f}"
        rank_zero_info(
            f"ChatJudge: {n_latents} latents, {n_prompts} questions to {self.model} at {self.base_url}, {n_kept} of "
            f"them answered before; about {input_tokens:,} tokens to read and {output_tokens:,} to write: {cost}"
            + (". This is a dry run: nothing is asked" if self.dry_run else "")
        )
        return not self.dry_run

    @override
    def ask(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        executor = ThreadPoolExecutor(self.n_parallel)
        try:
            return list(executor.map(lambda prompt: self._ask_one(self._body(prompt, max_tokens)), prompts))
        finally:
            executor.shutdown(cancel_futures=True)  # after a failure what has not begun is not asked

    def _ask_one(self, body: dict[str, Any]) -> str:
        answer = self._answers.get(body)
        if answer is None:
            answer = self._client.complete(body)
            self._answers.keep(body, answer)
        return answer

    def _body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.model, "messages": messages, "max_tokens": max_tokens} | self.request
        return {name: value for name, value in body.items() if value is not None}

    @cached_property
    def _client(self) -> ChatClient:
        key = os.environ.get(self.key_variable, "") if self.key_variable else ""
        return ChatClient(self.base_url, key, self.timeout_seconds, self.retries)

    @cached_property
    def _answers(self) -> AnswerFile:
        return AnswerFile(Path(self.cache).expanduser() / "answers.jsonl")
