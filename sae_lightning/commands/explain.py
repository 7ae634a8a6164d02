"""``sae explain``: print what is known of one latent of a finished run.

The texts on which it fires most strongly, the tokens that its decoder direction promotes and suppresses, its neighbours
in its own dictionary, and, where they are given, its meta-latents and its nearest latents in a smaller SAE; what
`sae stitch` found of it, where that has been run. Texts are those of interpretation.jsonl, which AutoInterp leaves; for
a latent that is not in it held-out text is read. Of a model that reads images these take the place of texts.
"""

import json
from pathlib import Path

from jsonargparse import ArgumentParser

from sae_lightning.commands.parser import RUN_HELP, make_parser, parse
from sae_lightning.members import Member
from sae_lightning.runs import Run


def main(args: list[str]) -> None:
    """Print what is known of a latent as text, or with ``--json`` the values behind it."""
    options = parse(_parser(), args[1:])
    for name in ("n", "n_tokens", "n_images"):
        if options[name] < 1:
            raise ValueError(f"--{name} {options[name]}: expected at least 1")
    from sae_lightning import cpu_settings
    from sae_lightning.explain.latent import explain
    from sae_lightning.explain.text import as_text

    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    explanation = explain(
        Run(options.RUN),
        Member.parse(options.MEMBER),
        options.LATENT,
        meta=options.meta,
        smaller=options.smaller,
        n=options.n,
        n_tokens=options.n_tokens,
        n_images=options.n_images,
    )
    print(json.dumps(explanation, ensure_ascii=False) if options.json else as_text(explanation))


def _parser() -> ArgumentParser:
    parser = make_parser("explain", __doc__)
    parser.add_argument("RUN", type=Path, help=RUN_HELP)
    parser.add_argument("MEMBER", type=str, help="SAE in its folder saes, such as trained/0.")
    parser.add_argument("LATENT", type=int, help="Number of the latent, from 0.")
    parser.add_argument(
        "--meta", type=Path, metavar="RUN", help="Run of a meta-SAE of this SAE; of several seeds the first is taken."
    )
    parser.add_argument("--smaller", type=Path, metavar="SAE", help="A smaller SAE, such as RUN/saes/trained/0.")
    parser.add_argument(
        "--n", type=int, default=5, metavar="N", help="How many texts or images, tokens and neighbours to print."
    )
    parser.add_argument("--n_tokens", type=int, default=32768, metavar="N", help="Most held-out tokens to read.")
    parser.add_argument("--n_images", type=int, default=1000, metavar="N", help="Most held-out images to read.")
    parser.add_argument("--json", action="store_true", help="Print one object instead of text.")
    return parser
