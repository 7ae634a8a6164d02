"""GGUF: a model and its tokenizer in one file, often quantised, which transformers turns back into a checkpoint.

Its weights become float32, as a program that runs the file itself would multiply them. What such a file does not say is
of which class its model was, so a model that can predict the next token is taken for one that does.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SUFFIX = ".gguf"
_WEIGHTS = ("*.safetensors", "*.bin")
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
    if path.is_dir() and not any(True for pattern in _WEIGHTS for _ in path.glob(pattern)):
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


def check_packages(file: Path) -> None:
    """Raise a `ValueError` where a package is missing without which transformers reads no GGUF file."""
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise ValueError(
            f"{file}: to read a GGUF file transformers needs {' and '.join(missing)}: pip install "
            f"{' '.join(missing)}, or this program with its extra `gguf`"
        )


def options(file: Path) -> dict[str, Any]:
    """Return what `from_pretrained` takes beside the folder. The path is whole: it would look in the working one."""
    return {"gguf_file": str(file)}


def model_options(file: Path) -> dict[str, Any]:
    """Return what `from_pretrained` of a model takes: newer versions of transformers may leave weights quantised."""
    import transformers

    quantised: Any = getattr(transformers, "GgufConfig", None)
    return options(file) | ({"quantization_config": quantised(dequantize=True)} if quantised else {})


def with_architecture(config: Any) -> Any:
    """Say in the configuration of a GGUF file of which class its model is, where it does not."""
    import transformers

    if not getattr(config, "architectures", None):
        for loader in (transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM):
            if type(config) in loader._model_mapping:
                config.architectures = [loader._model_mapping[type(config)].__name__]
                break
    return config
