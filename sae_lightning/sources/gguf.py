"""GGUF: a model and its tokenizer in one file, often quantised, which transformers turns back into a checkpoint.

Its weights become float32, just as the file has them. A file does not say of which class its model was: one that can
predict the next token is taken for one that does. Reading takes longer than that of a checkpoint: with 49,152 tokens
and 135 million weights 17 seconds of a core.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sae_lightning.moving_line import LINE

SUFFIX = ".gguf"
WEIGHTS = ("*.safetensors", "*.bin")
_PACKAGES = ("gguf", "accelerate")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


def gguf_file(model: str) -> Path | None:
    """Return the GGUF file that a path stands for: the file itself, or the only one of a folder without other weights.

    Returns:
        Its absolute path; None where the path stands for something else, such as a folder of a checkpoint.

    Raises:
        ValueError: if a folder has several, or the file is one part of several.
    """
    path = Path(model).expanduser()
    files = [path] if path.is_file() and path.suffix.lower() == SUFFIX else []
    if path.is_dir() and not has_weights(path):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == SUFFIX)
    if not files:
        return None
    if part := _PART.search(files[0].name):
        raise ValueError(
            f"model={model}: {files[0].name} is part {int(part[1])} of {int(part[2])}, and transformers reads one "
            "file: join them first, with `llama-gguf-split --merge` of llama.cpp"
        )
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:10])
        raise ValueError(f"model={model}: the folder has {len(files)} GGUF files, {names}; give one of them")
    return files[0].absolute()


def has_weights(folder: Path) -> bool:
    """Tell whether a folder has weights of a transformers checkpoint."""
    return any(True for pattern in WEIGHTS for _ in folder.glob(pattern))


def check_packages(file: Path) -> None:
    """Raise a `ValueError` where a package is missing without which transformers reads no GGUF file."""
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise ValueError(
            f"{file}: to read a GGUF file transformers needs {' and '.join(missing)}: pip install "
            f"{' '.join(missing)}, which the extra sae-lightning[gguf] does"
        )


def load(loader: Any, file: Path, config: Any = None) -> Any:
    """Load configuration, tokenizer or model from a GGUF file.

    Args:
        loader: an auto class of transformers.
        file: its absolute path: of a name alone transformers takes the file in the working folder, if there is one.
        config: for a model, its configuration.

    Raises:
        ValueError: if a package is missing, or transformers cannot read the file.
    """
    import transformers

    check_packages(file)
    options: dict[str, Any] = {"gguf_file": str(file)}
    if config is not None:
        options["config"] = config
        if quantised := getattr(transformers, "GgufConfig", None):  # newer versions may leave the weights quantised
            options["quantization_config"] = quantised(dequantize=True)
    try:
        with _shown_on_our_line(file):
            loaded = loader.from_pretrained(str(file.parent), **options)
    except Exception as error:  # of a damaged file any part of the reader may stumble over
        lines = str(error).splitlines() or [type(error).__name__]
        raise ValueError(
            f"{file}: transformers cannot read this GGUF file with {loader.__name__} ({lines[0]})"
        ) from error
    if hasattr(loaded, "all_special_ids"):
        loaded.name_or_path = str(file)  # a tokenizer is known by its file, not by the folder around it
    return loaded


@contextmanager
def _shown_on_our_line(file: Path) -> Iterator[None]:
    """Show on the line of this process how far the reading is, in place of a bar that transformers cannot turn off.

    Off a terminal that bar is a wall of carriage returns.
    """
    from transformers import modeling_gguf_pytorch_utils as reader

    def shown(tensors: Any, **_: Any) -> Iterator[Any]:
        for done, tensor in enumerate(tensors):
            LINE.show(f"reading {file.name}", done, len(tensors))
            yield tensor

    before, reader.tqdm = reader.tqdm, shown
    try:
        yield
    finally:
        reader.tqdm = before


def with_architecture(config: Any) -> Any:
    """Say in the configuration of a GGUF file of which class its model is, where it does not."""
    import transformers

    if not getattr(config, "architectures", None):
        loaders: tuple[Any, ...] = (transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM)
        for loader in loaders:
            if (cls := loader._model_mapping.get(type(config), None)) is not None:
                config.architectures = [cls.__name__]
                break
    return config
