"""Error messages of jsonargparse, reduced to the place and the cause.

jsonargparse answers a wrong setting with everything it tried: each member of a Union, the whole value that was given,
and somewhere in between the cause. The cause is picked out, and its place in the YAML is put in front.
"""

import difflib
import re
from collections.abc import Iterable, Iterator

_NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>|Expected a path but"
    r"|Problem with given class_path|Not a valid subclass|Subclass types expect|a class path \(str\)|a dict with"
)
_KEY = re.compile(r'Parser key "([^"]+)":\s*')
_CLASS = re.compile(r"(?:Problem with given class_path |Namespace\(class_path=)'(?:[\w.]*\.)?(\w+)'")
_MISSING = "the following arguments are required: "
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)")


def readable(message: str, known_classes: Iterable[str] = ()) -> str:
    """Reduce an error of jsonargparse to the place and the cause.

    Args:
        message: the error of jsonargparse; any other text is returned as it is.
        known_classes: names of which the nearest one is proposed for an unknown class.

    >>> print(readable('''Parser key "trainer.max_epochs":
    ...   Does not validate against any of the Union subtypes
    ...   Subtypes: [<class 'int'>, <class 'NoneType'>]
    ...   Errors:
    ...     - Expected a <class 'int'>
    ...     - Expected a <class 'NoneType'>
    ...   Given value type: <class 'str'>
    ...   Given value: lots'''))
    trainer.max_epochs: expected int, got lots
    >>> print(readable('''Parser key "data.order":
    ...   Expected a typing.Literal['shuffled', 'stream']. Got value: text'''))
    data.order: expected one of 'shuffled', 'stream', got text
    >>> print(readable("the following arguments are required: fit.data, RUN"))
    the following arguments are required: --data, RUN
    """
    if message.startswith(_MISSING):  # it names options without dashes, those of a subcommand with its name in front
        names = (name.rpartition(".")[2] for name in message.removeprefix(_MISSING).split(", "))
        return _MISSING + ", ".join(name if name.isupper() else f"--{name}" for name in names)
    if "Does not validate against" not in message and not _KEY.match(message):
        return message
    place: list[str] = []
    class_name = ""
    causes: list[str] = []
    for line in message.splitlines():
        text = re.sub(r"^\s*(- )?", "", line)
        place += _KEY.findall(text)
        class_name = (_CLASS.findall(text) or [class_name])[-1]
        text = _KEY.sub("", text)
        text = re.sub(r"^Type \S*Callable.* expects a function or a callable class:\s*", "", text)
        text = re.sub(r"\.? Got value: (Namespace\(|\{).*", "", text)
        if text and not _NOISE.match(text):
            causes.append(text)
    precise = [cause for cause in causes if not cause.startswith("Expected a <class")] or causes
    cause = "\n".join(dict.fromkeys(precise))
    given = re.findall(r"Given value: (.*)", message)
    if cause.startswith(("Expected a <class", "Expected a typing.Literal")) and "Got value" not in cause and given:
        cause += f". Got value: {given[0]}"
    cause = re.sub(r"Expected a typing\.Literal\[(.*)\]\. Got value: ", r"expected one of \1, got ", cause)
    cause = re.sub(r"Expected a <class '(\w+)'>\. Got value: ", r"expected \1, got ", cause)
    cause = re.sub(r"Option '(\w+)' is not accepted", rf"{class_name} has no option '\1'", cause)
    cause = _UNKNOWN_CLASS.sub(lambda match: unknown_class(match[1], known_classes), cause)
    return f"{'.'.join(place)}: {cause}" if place else cause


def unknown_class(name: str, known_classes: Iterable[str]) -> str:
    """Return a message that a class is unknown, with the nearest name.

    >>> unknown_class("TopKK", ["ReLU", "TopK"])
    'no class TopKK; did you mean TopK?'
    """
    nearest = difflib.get_close_matches(name, list(known_classes), n=1)
    return f"no class {name}" + (f"; did you mean {nearest[0]}?" if nearest else "")


def subclass_names(base: type) -> Iterator[str]:
    """Yield the names of all subclasses that are imported, subclasses of subclasses included."""
    subclass: type
    for subclass in base.__subclasses__():
        yield subclass.__name__
        yield from subclass_names(subclass)
