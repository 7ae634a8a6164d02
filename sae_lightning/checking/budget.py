"""How much a check may train: nothing, so many tokens, or so many minutes."""

import re
from dataclasses import dataclass, replace
from typing import Any

_FORM = "expected nulls, 'tokens N' such as 'tokens 2000000', or 'minutes T' such as 'minutes 30'"


@dataclass(frozen=True)
class Budget:
    """What a check may spend on training.

    Args:
        kind: nulls, tokens or minutes.
        tokens: activations that each SAE is trained on; of minutes unknown until a step was timed.
        minutes: of minutes.
    """

    kind: str = "nulls"
    tokens: int | None = None
    minutes: float | None = None

    @property
    def trains(self) -> bool:
        """Whether anything is trained by gradient."""
        return self.kind != "nulls"

    def with_tokens(self, tokens: int) -> "Budget":
        """Return the budget with the tokens that its minutes come to."""
        return replace(self, tokens=tokens)

    def as_json(self) -> dict[str, Any]:
        """Return plain values, without those that it does not have."""
        values = {"kind": self.kind, "minutes": self.minutes, "tokens": self.tokens}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read a budget as the user types it.

        Raises:
            ValueError: if it is none.

        >>> Budget.parse("tokens 2_000_000")
        Budget(kind='tokens', tokens=2000000, minutes=None)
        >>> Budget.parse("minutes 2.5").minutes
        2.5
        """
        if text.strip() == "nulls":
            return cls()
        match = re.fullmatch(r"(tokens|minutes)[\s=:]+([\d_,]+(?:\.\d+)?(?:e\d+)?)", text.strip())
        number = float(re.sub("[_,]", "", match[2])) if match else 0.0
        if match is None or not number or (match[1] == "tokens" and number % 1):
            raise ValueError(f"--budget {text}: {_FORM}")
        return cls("tokens", tokens=int(number)) if match[1] == "tokens" else cls("minutes", minutes=number)
