"""``sae hooks``: list the submodules of a model whose activations an SAE can be trained on.

Prints what ``data.hook`` takes, a line for each: its name and the width of its activations, which becomes d_in. The
model is loaded and reads a few tokens (or a blank image), since only that shows what a submodule gives.
"""

from jsonargparse import ArgumentParser

from sae_lightning.commands.parser import make_parser, parse


def main(args: list[str]) -> None:
    """Print the submodules of one model."""
    settings = parse(_parser(), args[1:])
    if settings.pretrained and not settings.clip:
        raise ValueError(f"--pretrained {settings.pretrained} is for models of open_clip: add --clip")
    from sae_lightning import cpu_settings
    from sae_lightning.sources.whole_model import WholeClip, WholeLanguageModel

    cpu_settings.silence_known_noise()
    sources: list[WholeClip] | list[WholeLanguageModel]
    if settings.clip:
        towers = ("visual", "text")  # any name decides which tower is read
        sources = [WholeClip(settings.MODEL, tower, settings.pretrained, settings.hook_input) for tower in towers]
    else:
        sources = [WholeLanguageModel(settings.MODEL, "", settings.hook_input, settings.revision)]
    widths = {name: width for source in sources for name, width in source.usable_hooks().items()}
    longest = max(map(len, widths))
    print(*(f"{name:<{longest}}  {width}" for name, width in widths.items()), sep="\n")


def _parser() -> ArgumentParser:
    parser = make_parser("hooks", __doc__)
    parser.add_argument(
        "MODEL", help="Folder of a transformers checkpoint, its name on the hub, or a GGUF file; as data.model."
    )
    parser.add_argument(
        "--hook_input", action="store_true", help="List those whose input has activations, not the output."
    )
    parser.add_argument(
        "--revision", type=str | None, default=None, help="Branch, tag or commit on the hub. Default: its main branch."
    )
    parser.add_argument("--clip", action="store_true", help="MODEL is one of open_clip.")
    parser.add_argument(
        "--pretrained", type=str | None, default=None, help="With --clip, tag or file of an architecture's weights."
    )
    return parser
