"""The configurations and pocket models that come with the package, found by the paths that they have in its repository.

In a clone and in an editable install they are the folders ``configs`` and ``data`` beside the package; an installed
wheel has them inside. So ``data/pocket_lm`` and ``configs/sae/topk.yaml`` mean the same in every working folder.
"""

from pathlib import Path

_FOLDERS = ("configs", "data")


def root() -> Path:
    """Return the folder that holds ``configs`` and ``data``."""
    package = Path(__file__).parent
    inside = package / "shipped"
    return inside if inside.is_dir() else package.parent


def located(path: str) -> str:
    """Return where a path leads: to what lies there, else to what the package has under that name.

    Args:
        path: of a file or folder, as a configuration or an option states it, or a name on the hub.

    Returns:
        The path as it is if something lies there, or if the package has nothing of that name.
    """
    if not path or Path(path).expanduser().exists() or Path(path).parts[0] not in _FOLDERS:
        return path
    ours = root() / path
    return str(ours) if ours.exists() else path


def configurations() -> dict[str, Path]:
    """Return the configurations by their path below ``configs`` without its ending, such as ``sae/topk``."""
    folder = root() / "configs"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.glob("*/*.yaml"))}


def configuration(name: str, option: str = "--config") -> str:
    """Return the path of the configuration that a user means.

    Args:
        name: path of a file, or the name of one that the package has: ``topk``, or ``sae/topk`` where several have it.
        option: that it was given to, for the message.

    Returns:
        Its path; the name as it is if it is none of these.

    Raises:
        ValueError: if several configurations have that name.
    """
    if (path := located(name)) != name or Path(name).expanduser().exists():
        return path
    known = configurations()
    if name in known:
        return str(known[name])
    named = [full for full in known if full.partition("/")[2] == name]
    if len(named) > 1:
        raise ValueError(f"{option} {name}: several have this name; give {' or '.join(named)}")
    return str(known[named[0]]) if named else name
