"""The configuration of a check as a file: what `--print_config` printed, or a ready one, as in configs/check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sae_lightning.class_paths import current_class_paths


@dataclass(frozen=True)
class CheckConfig:
    """What a configuration says of a check; None and empty where it says nothing.

    Args:
        references: where each SAE is read from, by name.
        controls: by name.
        draws: of each control that is random.
        control_samples: activations that controls are made from.
        evaluators: beside the default ones.
        nulls: null data by name.
        n_tokens: held-out activations.
    """

    references: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, Any] | None = None
    draws: int | None = None
    control_samples: int | None = None
    evaluators: Sequence[Mapping[str, Any]] | None = None
    nulls: Mapping[str, Any] | None = None
    n_tokens: int | None = None

    @classmethod
    def read(cls, path: Path | None) -> "CheckConfig":
        """Read a configuration; of a run without references it has the data alone, which are read elsewhere.

        Raises:
            ValueError: if it trains SAEs beside its references.
        """
        if path is None:
            return cls()
        settings = current_class_paths(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        panel = _arguments(settings.get("model"))
        if not panel.get("references"):
            return cls()
        if panel.get("policies") != {}:
            raise ValueError(
                f"--config {path} trains SAEs beside its references: run it with sae fit --config {path}, or set "
                "policies: {} and give --budget"
            )
        data = _arguments(settings.get("data"))
        callbacks = (settings.get("trainer") or {}).get("callbacks")
        named = {key.rpartition("/")[2]: where for key, where in panel["references"].items()}  # after the part
        return cls(
            named,
            panel.get("controls") or {},
            panel.get("draws"),
            panel.get("control_samples"),
            [{"class_path": one} if isinstance(one, str) else one for one in callbacks or ()],
            data.get("nulls") or {},
            data.get("val_samples"),
        )


def _arguments(choice: Any) -> Mapping[str, Any]:  # noqa: ANN401
    arguments = choice.get("init_args") if isinstance(choice, Mapping) else None
    return arguments if isinstance(arguments, Mapping) else {}
