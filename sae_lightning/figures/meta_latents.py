"""The meta-latents that one latent is made of, and other latents that are made of them (Leask et al. 2025, 2502.04878).

    W_dec[i] ~ sum_m a_im u_m + b

with the latents a of a meta-SAE and its directions u. Of all latents the one is shown that this sum explains best, if
each of its meta-latents has a part in others too: of the explained latents, where the base was explained.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn.functional import cosine_similarity
from typing_extensions import override

from sae_lightning.code import Code
from sae_lightning.datamodules import DecoderDirections
from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.figures.chart import Chart, FigureSkipped, Table
from sae_lightning.figures.look import PAPER
from sae_lightning.interpretation.strongest import kept_lines
from sae_lightning.members import TRAINED, Style
from sae_lightning.runs import Run
from sae_lightning.runs.run import run_of_sae
from sae_lightning.saes import SparseAutoencoder

_MOST_PARTS = 5
_LEAST_OTHERS, _MOST_OTHERS = 2, 3
"""Other latents that each of the meta-latents must be part of, and that are shown of it."""
_ROW = 17
_LATENT, _META, _OTHER = 0.30, 0.52, 0.68
"""Where the points stand across the chart."""


@dataclass(frozen=True)
class MetaLatent:
    """A part of a latent.

    Args:
        number: of the meta-latent.
        weight: how much of it is in the latent.
        others: latents that have most of it, and how much.
    """

    number: int
    weight: float
    others: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class MetaGraph(Chart):
    """A latent, its meta-latents, and other latents that these are part of; a thicker line is a larger part.

    Args:
        latent: its number.
        cosine: of its direction to the sum of its meta-latents.
        parts: its largest meta-latents, in this order.
        words: what is known of latents, by number.
    """

    latent: int
    cosine: float
    parts: Sequence[MetaLatent]
    words: Mapping[int, str]

    @property
    @override
    def alt_text(self) -> str:
        parts = ", ".join(f"meta-latent {part.number} ({part.weight:.2f})" for part in self.parts)
        return f"{self.name_of(self.latent)} is made of {parts}."

    @property
    @override
    def table(self) -> Table:
        rows = [
            [str(part.number), f"{part.weight:.2f}", self.name_of(other), f"{weight:.2f}"]
            for part in self.parts
            for other, weight in part.others
        ]
        return Table(self.title, ["meta-latent", "part in the latent", "other latent", "part in it"], rows)

    @property
    @override
    def policies(self) -> list[str]:
        return [TRAINED]

    @property
    @override
    def height(self) -> int:
        return _ROW * (sum(len(part.others) for part in self.parts) + len(self.parts) + 1)

    def name_of(self, latent: int) -> str:
        """Name a latent by its number and what is known of it."""
        return f"latent {latent}" + (f": {self.words[latent]}" if latent in self.words else "")

    @override
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        style = styles[TRAINED]
        largest = max(weight for part in self.parts for weight in (part.weight, *(own for _, own in part.others)))

        def join(begin: tuple[float, float], end: tuple[float, float], weight: float) -> None:
            places = tuple(zip(begin, end, strict=True))
            axes.plot(*places, color=style.colour, linewidth=5 * weight / largest, alpha=0.5, solid_capstyle="round")

        bottom, top = 0.0, 0.0
        middles = []
        for part in self.parts:
            rows = [bottom - 1 - place for place in range(len(part.others))]
            bottom, middle = rows[-1] - 1, sum(rows) / len(rows)
            middles.append(middle)
            for (other, weight), y in zip(part.others, rows, strict=True):
                join((_META, middle), (_OTHER, y), weight)
                axes.plot(_OTHER, y, color=style.colour, marker="o", markersize=5)
                axes.text(_OTHER + 0.015, y, textwrap.shorten(self.name_of(other), 48), va="center", fontsize="small")
            words, box = f"meta-latent {part.number}", {"color": PAPER, "pad": 1}
            axes.text(_META, middle + 0.5, words, ha="center", va="bottom", fontsize="small", bbox=box)
        centre = sum(middles) / len(middles)
        for part, middle in zip(self.parts, middles, strict=True):
            join((_LATENT, centre), (_META, middle), part.weight)
            axes.plot(_META, middle, color=style.colour, marker="s", markersize=6)
        axes.plot(_LATENT, centre, color=style.colour, marker="o", markersize=8)
        axes.text(_LATENT - 0.02, centre, textwrap.fill(self.name_of(self.latent), 28), ha="right", va="center")
        axes.set(xlim=(0, 1), ylim=(bottom, top))
        axes.set_axis_off()


def is_of_meta_sae(run: Run) -> bool:
    """Return whether a run has trained on the decoder directions of other SAEs."""
    return bool(run.config) and run.data["class_path"].rpartition(".")[2] == DecoderDirections.__name__


def meta_graph(run: Run) -> MetaGraph:
    """Read the graph of one latent from the run of a meta-SAE.

    Raises:
        FigureSkipped: if the run has not finished, or its base is not there, or no latent has shared meta-latents.
    """
    folders = run.data["init_args"]["saes"]
    if len(folders) > 1 or run.data["init_args"].get("drop_dead"):
        raise FigureSkipped("rows are latents only where the data are all directions of one SAE")
    members = [member for member in run.first_seeds() if member.policy == TRAINED and not member.part]
    if not members:
        raise FigureSkipped(f"there is no trained SAE in {run.folder / 'saes'}: the run has not finished")
    try:
        datamodule = run.datamodule((DecoderDirections,))
    except (OSError, ValueError) as error:
        raise FigureSkipped(f"its base cannot be read: {error}") from error
    assert isinstance(datamodule, DecoderDirections)
    return graph_of(run.load(members[0]), datamodule.source.directions, _words(Path(folders[0])))


@torch.no_grad()
def graph_of(meta_sae: SparseAutoencoder, directions: Float[Tensor, "n d_in"], words: Mapping[int, str]) -> MetaGraph:
    """Choose a latent of the base, and describe it.

    Args:
        meta_sae: in evaluation mode.
        directions: of the latents of the base.
        words: what is known of some of them.

    Raises:
        FigureSkipped: if no latent has meta-latents that are part of others too.
    """
    code = meta_sae.encode(directions)
    cosines = cosine_similarity(meta_sae.decode(code), directions)
    rows = torch.arange(len(directions)).repeat_interleave(code.offsets.diff())
    for latent in cosines.argsort(descending=True).tolist():
        if words and latent not in words:
            continue
        parts = _parts(code, rows, latent)[:_MOST_PARTS]
        if len(parts) > 1 and all(len(part.others) >= _LEAST_OTHERS for part in parts):
            title = "Which meta-latents is a latent made of, and which others are made of them?"
            return MetaGraph(title, latent, float(cosines[latent]), parts, words)
    raise FigureSkipped("no latent has several meta-latents that other latents have too")


def _parts(code: Code, rows: Tensor, latent: int) -> list[MetaLatent]:
    own = slice(int(code.offsets[latent]), int(code.offsets[latent + 1]))
    parts = []
    for number, weight in zip(code.indices[own].tolist(), code.values[own].tolist(), strict=True):
        if weight > 0:
            has_it = (code.indices == number) & (code.values > 0) & (rows != latent)
            weights, places = code.values[has_it].sort(descending=True)
            others = zip(rows[has_it][places][:_MOST_OTHERS].tolist(), weights[:_MOST_OTHERS].tolist(), strict=True)
            parts.append(MetaLatent(number, weight, list(others)))
    return sorted(parts, key=lambda part: -part.weight)


def _words(sae: Path) -> dict[int, str]:
    """Return the explanations of the latents of an SAE of a run, where it has any."""
    if (run := run_of_sae(sae)) is None:
        return {}
    member = next((str(member) for member, folder in run.saes.items() if folder.resolve() == sae.resolve()), "")
    lines = kept_lines(run.file(FILE_NAME))
    return {line["latent"]: line["explanation"] for line in lines if line["member"] == member and line["explanation"]}
