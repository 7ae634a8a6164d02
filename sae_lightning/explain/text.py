"""What `sae explain` prints."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from sae_lightning.explain.on_text import TextExplanation, TokenLatents
from sae_lightning.moving_line import width, wrapped
from sae_lightning.tables import lay_out


def as_text(explanation: Mapping[str, Any]) -> str:
    """Return everything that is known of a latent, as `explain` collects it, in paragraphs."""
    dead = ", dead at the end of training" if explanation["dead"] else ""
    who = f"{explanation['member']}, latent {explanation['latent']} of {explanation['d_sae']}"
    paragraphs = [f"{who}{dead} ({explanation['run']})"]
    if explanation["answers_at"]:
        paragraphs.append(f"A transcoder: reads {explanation['reads']}, answers at {explanation['answers_at']}")
    if explanation["parts"]:
        paragraphs.append(_parts(explanation["parts"]))
    if explanation["text"]:
        paragraphs.append(_text(explanation["text"]))
    elif explanation["images"]:
        paragraphs.append(_images(explanation["images"]))
    else:
        paragraphs.append("These data have no text: nothing to say of contexts and logits.")
    if explanation["logits"]:
        for name in ("promoted", "suppressed"):
            tokens = _pairs(explanation["logits"][name])
            paragraphs.append(f"Tokens {name}, by what a unit of the latent adds to their logits\n  {tokens}")
    elif explanation["text"] and not explanation["parts"]:
        paragraphs.append("The hook is not in the residual stream, or the model has no head: no tokens promoted.")
    paragraphs.append(f"Neighbours in its own dictionary, by cosine\n  {_related(explanation['neighbours'])}")
    if stability := explanation["stability"]:
        others = "1 other seed" if stability["n_other_seeds"] == 1 else f"{stability['n_other_seeds']} other seeds"
        paragraphs.append(
            f"Stability {stability['cosine']:.2f}: largest cosine to a decoder direction of another seed, mean over "
            f"{others}; {stability['above_random']:.0%} of random directions are less stable"
        )
    if explanation["meta"]:
        paragraphs.append(_meta(explanation["meta"]))
    if explanation["smaller"]:
        smaller = explanation["smaller"]
        head = f"Nearest of the {smaller['d_sae']} latents of {smaller['sae']}, by cosine"
        paragraphs.append(f"{head}\n  {_related(smaller['nearest'])}")
    paragraphs += [
        f"Inserted into {insertion['small']} (sae stitch): {insertion['class']}; squared error of a token "
        f"{insertion['change']:+.3g} [{insertion['low']:+.3g}, {insertion['high']:+.3g}], nearest cosine there "
        f"{insertion['best_cosine']:.2f}"
        for insertion in explanation["stitched"]
    ]
    return "\n\n".join(wrapped(paragraph, 4) for paragraph in paragraphs)


def _parts(parts: Sequence[Mapping[str, Any]]) -> str:
    names = (f"{one['part']} ({one['hook']})" if one["hook"] else one["part"] for one in parts)
    shares = ", ".join(f"{one['norm_share']:.0%} in {one['part']}" for one in parts)
    return f"A crosscoder of {', '.join(names)}; of the norm of this latent's decoder direction {shares}"


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
        lines.append(_filled(f"  {peak:8.3g}  ", _one_line("".join(tokens))))
    return "\n".join(lines)


def _filled(head: str, text: str) -> str:
    """Put text beside its head, all of its spaces kept, and what does not fit into the line below."""
    lines = textwrap.wrap(text, width() - len(head), drop_whitespace=False, break_on_hyphens=False)
    return head + f"\n{' ' * len(head)}".join(lines)


def _images(images: Mapping[str, Any]) -> str:
    head = f"Fires on {images['frequency']:.3%} of positions in held-out images"
    if not images["examples"]:
        return f"{head}: it fires on none of them"
    lines = [f"{head}, most strongly on"]
    for image in images["examples"]:
        shows = ", ".join(f"{attribute} {value}" for attribute, value in image["shows"].items())
        lines.append(_one_line(f"  {image['activation']:8.3g}  {image['name']}{': ' if shows else ''}{shows}"))
    return "\n".join(lines)


def _meta(meta: Mapping[str, Any]) -> str:
    head = f"Meta-latents of {meta['sae']}, which explain {meta['explained']:.2f} of its decoder direction"
    if not meta["is_of_this_sae"]:
        head += f"\n  (a meta-SAE of {', '.join(meta['bases'])}: as far as their paths tell, not of this SAE)"
    if not meta["meta_latents"]:
        return f"{head}\n  none of {meta['d_sae']} fires"
    rows = [["meta-latent", "fires", "other latents on which it fires most"]]
    rows += [
        [str(meta_latent["latent"]), f"{meta_latent['value']:.2f}", _related(meta_latent["others"]) or "-"]
        for meta_latent in meta["meta_latents"]
    ]
    return f"{head}\n{lay_out(rows)}"


def _related(latents: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{latent['latent']} ({latent['value']:.2f})" for latent in latents)


def _pairs(pairs: Sequence[Sequence[Any]]) -> str:
    return ", ".join(f"'{_one_line(token)}' {value:.3g}" for token, value in pairs)


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\t", "\\t")


def text_table(explanation: TextExplanation, n: int) -> str:
    """Return which latents fire on a text: the strongest of all, and then token by token, a table for each text.

    Args:
        explanation: what fires where.
        n: latents named for each token; as many again of all.
    """
    shown = explanation.latents[: 2 * n]
    rows = [["latent", "peak", "on", "tokens", "fires on", "explained as"]]
    rows += [
        [
            str(one.latent),
            f"{one.peak:.3g}",
            repr(one.token),
            str(one.n_tokens),
            "-" if one.frequency is None else f"{one.frequency:.3%}",
            one.explanation or "-",
        ]
        for one in shown
    ]
    known = [column for column in range(6) if any(row[column] != "-" for row in rows[1:]) or column < 4]
    head = f"{explanation.member} ({explanation.run}): {len(explanation.latents)} latents fire"
    if not explanation.latents:
        return wrapped(f"{head}: none on this text", 2)
    parts = [wrapped(f"{head}, the strongest", 2) + "\n" + lay_out([[row[column] for column in known] for row in rows])]
    for number, text in enumerate(explanation.texts, 1):
        title = f"Text {number}, token by token" if len(explanation.texts) > 1 else "Token by token"
        n_wide = max(len(repr(token.token)) for token in text)
        lines = [_filled(f"  {repr(token.token):<{n_wide}}  ", _fires(token, n)) for token in text]
        parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts)


def _fires(token: TokenLatents, n: int) -> str:
    if not token.is_read:
        return "(not read)"
    named = "  ".join(f"{latent} {value:.3g}" for latent, value in token.latents[:n])
    more = f"  and {len(token.latents) - n} more" if len(token.latents) > n else ""
    return named + more or "-"
