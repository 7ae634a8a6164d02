"""The page of ``sae explain RUN SAE --text``: each latent with the texts, marked where it fires."""

from typing import Any

from jinja2 import Environment, PackageLoader

from sae_lightning import __version__
from sae_lightning.explain.on_text import TextExplanation
from sae_lightning.report.page import inline

_MOST_LATENTS = 60
"""Latents with a row of their own."""


def text_page(explanation: TextExplanation, n: int) -> str:
    """Make the page.

    Args:
        explanation: what fires where.
        n: latents named beside each token.
    """
    environment = Environment(
        loader=PackageLoader("sae_lightning.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    context: dict[str, Any] = {
        "explanation": explanation,
        "latents": [(one, _marked(explanation, one.latent, one.peak)) for one in explanation.latents[:_MOST_LATENTS]],
        "n": n,
        "version": __version__,
        "inline": inline,
        "visible": visible,
    }
    return environment.get_template("text.html.j2").render(context)


def _marked(explanation: TextExplanation, latent: int, peak: float) -> list[list[tuple[str, float, float]]]:
    """Return the tokens of each text with the activation of a latent, and that as a share of its peak."""
    values = [[(token.token, dict(token.latents).get(latent, 0.0)) for token in text] for text in explanation.texts]
    return [[(visible(word), value, round(value / peak, 2)) for word, value in text] for text in values]


def visible(token: str) -> str:
    """Show line ends and tabs as signs."""
    return token.replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", "⇥")
