"""What `sae explain` prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from sae_lightning.tables import lay_out


def page(found: Mapping[str, Any]) -> str:
    """Everything of one latent as text."""
    dead = ", dead at the end of training" if found["dead"] else ""
    sections = [f"{found['member']}, latent {found['latent']} of {found['d_sae']}{dead} ({found['run']})"]
    if found["text"]:
        sections.append(_text(found["text"]))
    elif found["pictures"]:
        sections.append(_pictures(found["pictures"]))
    else:
        sections.append("These data have no text: nothing to say of contexts and logits.")
    if found["logits"]:
        for name in ("promoted", "suppressed"):
            sections.append(
                f"Tokens {name}, by what a unit of the latent adds to their logits\n  {_pairs(found['logits'][name])}"
            )
    elif found["text"]:
        sections.append("The hook is no place in the residual stream, or the model has no head: no tokens promoted.")
    sections.append(f"Neighbours in its own dictionary, by cosine\n  {_related(found['neighbours'], '.2f')}")
    if found["meta"]:
        sections.append(_meta(found["meta"]))
    if found["smaller"]:
        smaller = found["smaller"]
        sections.append(
            f"Nearest of the {smaller['d_sae']} latents of {smaller['sae']}, by cosine\n  "
            f"{_related(smaller['nearest'], '.2f')}"
        )
    for of in found["stitched"]:
        sections.append(
            f"Inserted into {of['small']} (sae stitch): {of['class']}; squared error of a token {of['change']:+.3g} "
            f"[{of['low']:+.3g}, {of['high']:+.3g}], nearest cosine there {of['best_cosine']:.2f}"
        )
    return "\n\n".join(sections)


def _text(text: Mapping[str, Any]) -> str:
    lines = [f"Fires on {text['frequency']:.3%} of tokens; its texts are from {text['from']}"]
    if text["explanation"] is not None:
        lines.append(f"  explained as: {text['explanation']} (right in {text['score']:.0%} of texts, chance 50%)")
    if not text["examples"]:
        return f"{lines[0]}: it fires in none of them"
    lines.append(f"  most of it on {_pairs(text['top_tokens'])}")
    for example in text["examples"]:
        peak = max(example["activations"])
        tokens = (
            f"«{token}»" if activation == peak else token
            for token, activation in zip(example["tokens"], example["activations"], strict=True)
        )
        lines.append(f"  {peak:8.3g}  {_one_line(''.join(tokens))}")
    return "\n".join(lines)


def _pictures(pictures: Mapping[str, Any]) -> str:
    head = f"Fires on {pictures['frequency']:.3%} of positions in held-out pictures"
    if not pictures["examples"]:
        return f"{head}: it fires on none of them"
    lines = [f"{head}, most strongly on"]
    for of in pictures["examples"]:
        shows = ", ".join(f"{attribute} {value}" for attribute, value in of["shows"].items())
        lines.append(_one_line(f"  {of['activation']:8.3g}  {of['name']}{': ' if shows else ''}{shows}"))
    return "\n".join(lines)


def _meta(meta: Mapping[str, Any]) -> str:
    head = f"Meta-latents of {meta['sae']}, which explain {meta['explained']:.2f} of its decoder direction"
    if not meta["is_of_this_sae"]:
        head += f"\n  (a meta-SAE of {', '.join(meta['bases'])}: as far as their paths tell, not of this SAE)"
    if not meta["meta_latents"]:
        return f"{head}\n  none of {meta['d_sae']} fires"
    rows = [["meta-latent", "fires", "other latents on which it fires most"]]
    rows += [
        [str(of["latent"]), f"{of['value']:.2f}", _related(of["others"], ".2f") or "-"] for of in meta["meta_latents"]
    ]
    return f"{head}\n{lay_out(rows)}"


def _related(related: Sequence[Mapping[str, Any]], show: str) -> str:
    return ", ".join(f"{of['latent']} ({of['value']:{show}})" for of in related)


def _pairs(pairs: Sequence[Sequence[Any]]) -> str:
    return ", ".join(f"'{_one_line(token)}' {value:.3g}" for token, value in pairs)


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\t", "\\t")
