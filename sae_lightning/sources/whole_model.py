"""Models of which no submodule has been chosen yet, to ask which there are."""

from typing_extensions import override

from sae_lightning.sources.clip import ClipSource
from sae_lightning.sources.hooked import HookedModel
from sae_lightning.sources.language_model import LanguageModelSource


class _Unhooked(HookedModel):
    @override
    def _read_at(self, hook: str | dict[str, str], hook_input: bool) -> None:
        self.hook, self.hook_input = hook, hook_input


class WholeLanguageModel(_Unhooked, LanguageModelSource):
    """A language model; its arguments are those of `LanguageModelSource`, the hook is not looked at."""


class WholeClip(_Unhooked, ClipSource):
    """A model of open_clip; its arguments are those of `ClipSource`, the hook is not looked at."""
