"""`DataRequest`: what the user says of the data of a check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataRequest:
    """What the user says of the data, by the names of the options; None and empty where nothing is said.

    Args:
        model: folder, or name on the hub.
        hook: submodule that the SAEs read.
        hook_input: they read its input.
        target: submodule at which transcoders answer.
        text: files or folders.
        config: configuration of a run, for its data.
        cache: folder of activations that `sae cache` wrote.
        activations: file or folder of activations.
        key: name of the tensor in it.
        context_length: tokens in a row.
        bos_in_every_row: whether rows begin with the beginning token.
        skip_first_positions: positions left out at the start of each row.
        dtype: number format of the model.
        n_tokens: held-out activations to measure on.
    """

    model: str | None = None
    hook: str | None = None
    hook_input: bool = False
    target: str | None = None
    text: Sequence[str] = ()
    config: Path | None = None
    cache: str | None = None
    activations: str | None = None
    key: str | None = None
    context_length: int | None = None
    bos_in_every_row: bool | None = None
    skip_first_positions: int | None = None
    dtype: str | None = None
    n_tokens: int = 16_384

    @property
    def of_a_model(self) -> list[str]:
        """The options that say something of a model or text."""
        options = {
            "model": self.model,
            "hook": self.hook,
            "hook_input": self.hook_input,
            "target": self.target,
            "text": self.text,
            "config": self.config,
            "context_length": self.context_length,
            "bos_in_every_row": self.bos_in_every_row,
            "skip_first_positions": self.skip_first_positions,
            "dtype": self.dtype,
        }
        return [f"--{name}" for name, value in options.items() if value]
