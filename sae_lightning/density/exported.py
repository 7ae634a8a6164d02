"""The SAEs of a run whose density is measured."""

from pathlib import Path

from sae_lightning.saes import SparseAutoencoder


def read_saes(run: Path) -> dict[str, SparseAutoencoder]:
    """Read the exported SAEs of a run in evaluation mode, by `<policy>/<seed>`; of a run with nulls the real ones.

    Raises:
        ValueError: if there are none.
    """
    folders = {"/".join(path.parts[-3:-1]): path.parent for path in sorted(run.glob("saes/*/*/sae.safetensors"))}
    if not folders:
        several = "; those of several hooks are not read" if any(run.glob("saes/*/*/*/sae.safetensors")) else ""
        raise ValueError(f"{run}: no SAEs in {run / 'saes'}, which a fit leaves when it has finished{several}")
    return {member: SparseAutoencoder.load(folder).eval() for member, folder in folders.items()}
