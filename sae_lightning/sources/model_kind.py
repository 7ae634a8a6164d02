"""What a checkpoint is: the class of transformers that loads it with its head, and what its outputs answer."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class ModelKind:
    """A kind of checkpoint.

    Args:
        loader: name of the auto class of transformers that loads it.
        no_next_token: why its outputs are no logits of the next token; empty where they are.
    """

    loader: str
    no_next_token: str


_GIVEN_TARGET = "an encoder-decoder, which predicts a target text from a source text, and here both are the text itself"
_HEADLESS = ModelKind("AutoModel", "a model without a language-modelling head, whose outputs are hidden states")
_KINDS = (
    ModelKind("AutoModelForCausalLM", ""),
    ModelKind("AutoModelForSeq2SeqLM", _GIVEN_TARGET),  # before masked models: Bart is among both
    ModelKind("AutoModelForMaskedLM", "a masked model, which fills in hidden tokens and sees all others"),
    ModelKind("AutoModelForImageTextToText", ""),
    ModelKind("AutoModelForMultimodalLM", ""),
    ModelKind("AutoModelForTextEncoding", _HEADLESS.no_next_token),  # T5EncoderModel, which AutoModel loads as T5Model
)


def kind_of(config: Any) -> ModelKind:
    """Return the first kind whose mapping in transformers has the class that the checkpoint was saved from.

    A class that is in none, such as a classifier, is loaded without its head.

    Args:
        config: configuration of a transformers model.
    """
    import transformers

    saved = set(getattr(config, "architectures", None) or ())
    for kind in _KINDS:
        loader: Any = getattr(transformers, kind.loader, None)  # older versions lack some
        classes = None if loader is None else loader._model_mapping.get(type(config), None)
        classes = classes if isinstance(classes, list | tuple) else [classes]
        if saved & {getattr(cls, "__name__", "") for cls in classes}:
            if getattr(config, "is_encoder_decoder", False) and not kind.no_next_token:
                return replace(kind, no_next_token=_GIVEN_TARGET)
            return kind
    return _HEADLESS
