"""``sae explain``: what is known of one latent of a finished run.

The texts on which it fires most strongly, the tokens that its decoder direction promotes and suppresses, its neighbours
in its own dictionary, and, where they are given, its meta-latents and its nearest latents in a smaller SAE; what
`sae stitch` found of it, where that has been run. Texts are those of interpretation.jsonl, which AutoInterp leaves; for
a latent that is not in it held-out text is read. Of a model that reads pictures these take the place of texts.
"""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from sae_lightning import startup
from sae_lightning.canonical.meta import meta_latents_of, nearest_latents, neighbours
from sae_lightning.datamodules import ClipImages
from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.explain.findings import TEXT_DATA, added_logits, data_of_run, stitched
from sae_lightning.explain.page import page
from sae_lightning.interpretation.excerpts import Example, Excerpt, Excerpts
from sae_lightning.interpretation.strongest import kept_line, max_activating_examples, max_activating_images, top_tokens
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.module import part_of
from sae_lightning.saes.saving import dead_latents

_EXCERPT_LENGTH = 32


def main(args: list[str]) -> None:
    """Print the page, or with ``--json`` the values behind it."""
    startup.silence_known_noise()
    startup.speed_up_cpu()
    options = _parser().parse_args(args[1:])
    for name in ("n", "n_tokens", "n_pictures"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name)}: expected at least 1")
    found = explain(options)
    print(json.dumps(found, ensure_ascii=False) if options.json else page(found))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="sae explain", description=__doc__, exit_on_error=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, lightning_logs/<name>/version_N")
    parser.add_argument("member", metavar="MEMBER", help="SAE in its folder saes, such as trained/0")
    parser.add_argument("latent", type=int, metavar="LATENT", help="its number, from 0")
    parser.add_argument(
        "--meta", type=Path, metavar="RUN", help="run of a meta-SAE of this SAE; of several seeds the first is taken"
    )
    parser.add_argument("--smaller", type=Path, metavar="FOLDER", help="a smaller SAE, such as RUN/saes/trained/0")
    parser.add_argument(
        "--n", type=int, default=5, help="how many texts or pictures, tokens and neighbours (default: 5)"
    )
    parser.add_argument(
        "--n_tokens", type=int, default=32768, help="held-out tokens that are read at most (default: 32768)"
    )
    parser.add_argument(
        "--n_pictures", type=int, default=1000, help="held-out pictures that are read at most (default: 1000)"
    )
    parser.add_argument("--json", action="store_true", help="print one object instead of the page")
    return parser


def explain(options: Namespace) -> dict[str, Any]:
    """Everything as plain values; None where there is nothing to ask, such as no text, no meta-SAE, no smaller SAE."""
    folder = _folder_of(options.run, options.member)
    sae, latent = SparseAutoencoder.load(folder), options.latent
    if not 0 <= latent < sae.d_sae:
        raise ValueError(f"LATENT {latent}: {options.member} has {sae.d_sae} latents; expected 0 to {sae.d_sae - 1}")
    W_dec, dead = sae.W_dec.detach(), dead_latents(folder)  # noqa: N806
    found: dict[str, Any] = {
        "run": str(options.run),
        "member": options.member,
        "latent": latent,
        "d_sae": sae.d_sae,
        "dead": None if dead is None else latent in dead,
        "neighbours": [asdict(of) for of in neighbours(W_dec, [latent], options.n)[0]],
        "meta": None if options.meta is None else _meta(options.meta, folder, W_dec, latent, options.n),
        "smaller": None if options.smaller is None else _smaller(options.smaller, W_dec[latent], options.n),
        "stitched": stitched(options.run, options.member, [latent])[0],
    }
    found |= {"text": None, "pictures": None, "logits": None}
    datamodule = data_of_run(options.run, part_of(options.member), (*TEXT_DATA, ClipImages))
    if datamodule is None:
        return found
    of_data = _with_pictures if isinstance(datamodule, ClipImages) else _with_text
    return found | of_data(datamodule, sae, options)


def _folder_of(run: Path, member: str) -> Path:
    if not (run / "config.yaml").is_file():
        raise ValueError(f"{run}: no config.yaml in it; give a run folder, such as lightning_logs/<name>/version_0")
    members = [str(path.parent.relative_to(run / "saes")) for path in sorted((run / "saes").glob("**/sae.safetensors"))]
    if not members:
        raise ValueError(f"{run}: no SAEs in {run / 'saes'}, which a fit leaves when it has finished")
    if member not in members:
        raise ValueError(f"MEMBER {member}: {run} has {', '.join(members)}")
    return run / "saes" / member


def _meta(run: Path, base: Path, W_dec: Tensor, latent: int, n: int) -> dict[str, Any]:  # noqa: N803
    config = run / "config.yaml"
    data = ((yaml.safe_load(config.read_text()) or {}).get("data") or {}) if config.is_file() else {}
    if not str(data.get("class_path")).endswith("DecoderDirections"):
        raise ValueError(
            f"--meta {run}: expected a run whose data are DecoderDirections of {base}, such as one of "
            "configs/experiment/meta_sae_pocket_lm.yaml"
        )
    saes = sorted(run.glob("saes/trained/*/sae.safetensors"))
    if not saes:
        raise ValueError(f"--meta {run}: no SAEs in {run / 'saes/trained'}, which a fit leaves when it has finished")
    meta = SparseAutoencoder.load(saes[0].parent)
    _check_width("--meta", run, meta, W_dec.shape[1])
    [(latents, explained)] = meta_latents_of(meta, W_dec, [latent], n)
    bases = data["init_args"]["saes"]
    return {
        "sae": str(saes[0].parent),
        "d_sae": meta.d_sae,
        "bases": bases,
        "is_of_this_sae": base.resolve() in [Path(folder).resolve() for folder in bases],
        "explained": explained,
        "meta_latents": [asdict(of) for of in latents],
    }


def _smaller(folder: Path, direction: Tensor, n: int) -> dict[str, Any]:
    smaller = SparseAutoencoder.load(folder)
    _check_width("--smaller", folder, smaller, len(direction))
    return {
        "sae": str(folder),
        "d_sae": smaller.d_sae,
        "nearest": [asdict(of) for of in nearest_latents(direction, smaller.W_dec, n)],
    }


def _check_width(option: str, folder: Path, sae: SparseAutoencoder, d_in: int) -> None:
    if sae.d_in != d_in:
        raise ValueError(f"{option} {folder} has d_in={sae.d_in}, and the SAE to explain {d_in}: they do not belong")


@torch.no_grad()
def _with_text(datamodule: Any, sae: SparseAutoencoder, options: Namespace) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    datamodule.source.to(device)
    sae = sae.to(device)
    line = kept_line(options.run / FILE_NAME, options.member, options.latent)
    if line is not None:
        examples = [Example(Excerpt(tuple(of["tokens"]), 0), tuple(of["activations"])) for of in line["examples"]]
        text = {"from": FILE_NAME} | {name: line[name] for name in ("frequency", "explanation", "score")}
    else:
        packing = datamodule.packing
        length = min(_EXCERPT_LENGTH, packing.context_length)
        excerpts = Excerpts(datamodule.heldout_rows(options.n_tokens), length, packing.tokenizer)
        part = part_of(options.member)
        examples, frequency = max_activating_examples(datamodule, sae, part, options.latent, excerpts, options.n)
        text = {"from": "the held-out text", "frequency": frequency, "explanation": None, "score": None}
    text["top_tokens"] = top_tokens(examples, options.n)
    text["examples"] = [
        {"tokens": of.excerpt.tokens, "activations": [float(f"{a:.4g}") for a in of.activations]}
        for of in examples[: options.n]
    ]
    logits = added_logits(datamodule, sae.W_dec[options.latent][None], options.n)
    return {"text": text, "logits": logits and logits[0]}


def _with_pictures(datamodule: Any, sae: SparseAutoencoder, options: Namespace) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    datamodule.source.to(device)
    strongest, frequency = max_activating_images(
        datamodule, sae.to(device), part_of(options.member), options.latent, options.n_pictures, options.n
    )
    images = datamodule.images
    examples = [
        {
            "picture": number,
            "name": images.name(number),
            "activation": float(f"{activation:.4g}"),
            "shows": images.shown(number),
        }
        for number, activation in strongest
    ]
    return {"pictures": {"frequency": frequency, "examples": examples}}
