"""``python -m sae_lightning`` and the command ``sae``."""

from sae_lightning.cores import let_threads_sleep


def main(args: list[str] | None = None) -> None:
    """Run one command, see `cli.main`; settings that torch reads when it is imported are made first."""
    let_threads_sleep()
    from sae_lightning.cli import main as run

    run(args)


if __name__ == "__main__":
    main()
