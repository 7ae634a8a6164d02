"""``sae explain``: print what is known of one latent: of a finished run, or of any SAE on a model and text.

With ``sae explain RUN MEMBER --text "The cat sat."`` it is about a text of one's own instead: which latents fire on it,
token by token; ``--html PAGE`` writes the same as a page.

The texts on which it fires most strongly, the tokens that its decoder direction promotes and suppresses, its neighbours
in its own dictionary, and, where they are given, its meta-latents and its nearest latents in a smaller SAE; what
`sae stitch` found of it, where that has been run. Texts are those of interpretation.jsonl, which AutoInterp leaves; for
a latent that is not in it held-out text is read. Of a model that reads images these take the place of texts. An SAE
that is of no run, of this library or another, is given as ``sae explain SAE LATENT`` with --model, --hook and --text,
or with --config.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.model_and_text import activations_for, add_model_and_text, parse_with_data
from sae_lightning.commands.parser import make_parser
from sae_lightning.members import Member
from sae_lightning.runs import Run
from sae_lightning.whole_files import write_whole


def main(args: list[str]) -> None:
    """Print what is known of a latent, or what fires on a text, as text, or with ``--json`` the values behind it."""
    options = parse_with_data(_parser(), args[1:], has_own_text=True)
    if options.LATENT is None and str(options.MEMBER or "").isdecimal():  # SAE LATENT
        options.LATENT, options.MEMBER = int(options.MEMBER), None
    for name in ("n", "n_tokens", "n_images"):
        if options[name] < 1:
            raise ValueError(f"--{name} {options[name]}: expected at least 1")
    from sae_lightning import cpu_settings
    from sae_lightning.explain.latent import explain
    from sae_lightning.explain.text import as_text

    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    if options.text and not options.model:
        _explain_text(options)
        return
    if options.html:
        raise ValueError(f"--html {options.html}: is for --text; the page of single latents is that of sae report")
    numbers: dict[str, Any] = {name: options[name] for name in ("n", "n_tokens", "n_images")}
    if options.model or options.config:
        explanation = _of_any_sae(options, numbers)
    elif options.MEMBER is None or options.LATENT is None:
        raise ValueError(
            f"{options.RUN}: give RUN MEMBER LATENT, such as RUN trained/0 17; or SAE LATENT, and which model and text "
            "it is to read: --model, --hook and --text, or --config; or RUN MEMBER --text TEXT, for what fires on that"
        )
    else:
        member = Member.parse(options.MEMBER)
        files = {"meta": options.meta, "smaller": options.smaller}
        explanation = explain(Run(options.RUN), member, options.LATENT, **files, **numbers)
    print(json.dumps(explanation, ensure_ascii=False) if options.json else as_text(explanation))


def _explain_text(options: Namespace) -> None:
    """Print which latents of a run fire on a text, or write the page of it."""
    from sae_lightning.explain.on_text import explain_text
    from sae_lightning.explain.text import text_table
    from sae_lightning.report.text_page import text_page

    if options.config or options.MEMBER is None or options.LATENT is not None:
        raise ValueError(
            f"--text {options.text!r}: without --model it is a text to read, and all latents of RUN MEMBER are asked; "
            "give RUN MEMBER, such as RUN trained/0, without a LATENT"
        )
    texts = [options.text] if isinstance(options.text, str) else options.text
    explanation = explain_text(Run(options.RUN), Member.parse(options.MEMBER), texts)
    if options.html:
        write_whole(options.html, text_page(explanation, options.n))
        print(options.html)
    elif options.json:
        print(json.dumps(asdict(explanation), ensure_ascii=False))
    else:
        print(text_table(explanation, options.n))


def _of_any_sae(options: Namespace, numbers: dict[str, Any]) -> dict[str, Any]:
    """Explain a latent of an SAE that is of no run."""
    from sae_lightning.explain.latent import explain_sae
    from sae_lightning.saes import SparseAutoencoder

    if options.LATENT is None:
        raise ValueError(f"{options.RUN}: give SAE LATENT, the number of the latent to explain")
    for name in ("MEMBER", "meta"):
        if options[name] is not None:
            raise ValueError(
                f"{name.removeprefix('--')} {options[name]}: is of a run, and with --model or --config there is none"
            )
    sae = SparseAutoencoder.load(options.RUN, assumed_from(options) or None)
    datamodule = activations_for(options, sae, options.RUN)
    return explain_sae(sae, options.RUN, options.LATENT, datamodule, smaller=options.smaller, **numbers)


def _parser() -> ArgumentParser:
    parser = make_parser("explain", __doc__)
    parser.add_argument("RUN", type=Path, help="Folder of a finished run, lightning_logs/NAME/version_N; or an SAE.")
    parser.add_argument("MEMBER", type=str, nargs="?", help="SAE of the run in its folder saes, such as trained/0.")
    parser.add_argument(
        "LATENT", type=int, nargs="?", help="Number of the latent, from 0. Without it --text has a text of your own."
    )
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
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="With a text of your own: write a page instead of printing."
    )
    add_assume(parser)
    add_model_and_text(parser)
    return parser
