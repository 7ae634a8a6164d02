"""Error messages of jsonargparse, reduced to the place and the cause.

jsonargparse answers a wrong setting with everything it tried: each member of a Union, the whole value that was given,
and somewhere in between the cause. The cause is picked out, and its place in the YAML is put in front.
"""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

_NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>|Expected a path but"
    r"|Problem with given class_path|Not a valid subclass|Subclass types expect|a class path \(str\)|a dict with"
)
_KEY = re.compile(r'Parser key "([^"]+)":\s*')
_CLASS = re.compile(r"(?:Problem with given class_path |Namespace\(class_path=)'(?:[\w.]*\.)?(\w+)'")
_MISSING = "the following arguments are required: "
_EXAMPLES = {"--model": "--model TopK", "--data": "--data SyntheticDataModule"}
_SEVERAL = re.compile(r"Multiple subclasses with name (\w+)\..*ambiguity: ([\w., ]+)\.")
_NUMBER = re.compile(r"[-+]?(nan|inf|infinity|[\d.]+(e[-+]?\d+)?)", re.IGNORECASE)
_LITERAL = re.compile(r"Expected a typing\.Literal\[(.*)\]")
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
PLATEAU = (
    "ReduceLROnPlateau follows a metric, and here a schedule is stepped after every optimizer step; take "
    "sae_lightning.saes.WarmupDecay, or torch.optim.lr_scheduler.CosineAnnealingLR"
)
"""Why this schedule is refused; it is also the name of two classes, so that parsing it is refused too."""
_ABSTRACT = re.compile(r"Expected an instantiatable class, but \S+ is abstract")
_UNKNOWN_OPTION = re.compile(r"Option '(\w+)' is not accepted")


def readable(message: str, known_classes: Iterable[type] = ()) -> str:
    """Reduce an error of jsonargparse to the place and the cause.

    Args:
        message: the error of jsonargparse; any other text is returned as it is.
        known_classes: of which the nearest name is proposed for an unknown class, and the nearest option for an unknown
            option of one of them.

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
    the following arguments are required: --data, RUN; such as --data SyntheticDataModule, or --config YAML
    """
    if message.startswith(_MISSING) and ";" not in message:
        return _missing(message.removeprefix(_MISSING).split(", "))
    if several := _SEVERAL.search(message):
        place = ".".join(_KEY.findall(message))
        if several[1] == "ReduceLROnPlateau":
            return f"{place}: {PLATEAU}"
        return f"{place}: {several[1]} is the name of several classes; give one with its module: {several[2]}"
    if "Does not validate against" not in message and not _KEY.match(message):
        return message
    places: list[str] = []
    class_name = ""
    causes: list[str] = []
    for line in message.splitlines():
        text = re.sub(r"^\s*(- )?", "", line)
        places += _KEY.findall(text)
        class_name = (_CLASS.findall(text) or [class_name])[-1]
        text = _KEY.sub("", text)
        text = re.sub(r"^Type \S*Callable.* expects a function or a callable class:\s*", "", text)
        text = re.sub(r"\.? Got value: (Namespace\(|\{).*", "", text)
        if text and not _NOISE.match(text):
            causes.append(text)
    given = [value.partition(". Got value: ")[0] for value in re.findall(r"Given value: (.*)", message)]
    place = ".".join(places)
    cause = _in_words("\n".join(dict.fromkeys(_precise(causes, given))), given)
    known = list(known_classes)
    cause = _UNKNOWN_OPTION.sub(lambda match: _unknown_option(match[1], place, class_name, known), cause)
    cause = _ABSTRACT.sub(f"--{place} CLASS has to stand before the options of the class", cause)
    cause = _UNKNOWN_CLASS.sub(lambda match: unknown_class(match[1], [kind.__name__ for kind in known]), cause)
    return f"{place}: {cause}" if place else cause


def _missing(names: Sequence[str]) -> str:
    """Name options with their dashes: jsonargparse leaves these out, and may put a subcommand in front."""
    plain = (name.rpartition(".")[2].lstrip("-") for name in names)
    options = [name if name.isupper() else f"--{name}" for name in plain]
    examples = " ".join(_EXAMPLES[option] for option in options if option in _EXAMPLES)
    return _MISSING + ", ".join(options) + (f"; such as {examples}, or --config YAML" if examples else "")


def _precise(causes: Sequence[str], given: Sequence[str]) -> Sequence[str]:
    """Choose the causes that say most: a value is rarely meant to be one of the simple types that a Union may have."""
    numbers = [cause for cause in causes if re.match("Expected a <class '(int|float)'>", cause)]
    if numbers and given and _NUMBER.fullmatch(given[0]):  # of a Union of a number and a class
        return numbers
    precise = [cause for cause in causes if not cause.startswith("Expected a <class")] or causes
    choices = [match[1] for cause in precise if (match := _LITERAL.fullmatch(cause))]
    return [f"Expected a typing.Literal[{', '.join(choices)}]"] if len(choices) > 1 else precise


def _in_words(cause: str, given: Sequence[str]) -> str:
    if cause.startswith(("Expected a <class", "Expected a typing.Literal")) and "Got value" not in cause and given:
        cause += f". Got value: {given[0]}"
    cause = re.sub(r"Expected a typing\.Literal\[(.*)\]\. Got value: ", r"expected one of \1, got ", cause)
    cause = re.sub(r"Expected a <class '(\w+)'>\. Got value: ", r"expected \1, got ", cause)
    return re.sub(r"^expected float, got ([-+]?(?:nan|inf).*)$", r"expected a finite number, got \1", cause)


def unknown_class(name: str, known_classes: Iterable[str]) -> str:
    """Return a message that a class is unknown, with the nearest name.

    >>> unknown_class("TopKK", ["ReLU", "TopK"])
    'no class TopKK; did you mean TopK?'
    """
    return f"no class {name}" + did_you_mean(name, known_classes)


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """Return a question for the nearest of the known names; empty if none is near.

    Args:
        name: what was given.
        known: what there is.
        before: what to put in front of the name.

    >>> did_you_mean("kk", ["d_sae", "k"], "--model.")
    '; did you mean --model.k?'
    """
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {before}{nearest[0]}?" if nearest else ""


def _unknown_option(name: str, place: str, class_name: str, known: Sequence[type]) -> str:
    """Say that a class has no such option: the nearest one, or that of the class inside, and where all are listed."""
    owner = next((kind for kind in known if kind.__name__ == class_name), None)
    text = f"{class_name} has no option {name!r}"
    if owner is None:
        return text
    options = options_of(owner)
    if "sae" in options:  # a panel, which takes the options of its SAE one level below
        return f"{text}; options of its SAE are given as --{place}.sae.{name}, see sae fit --{place}.sae.help CLASS"
    return text + (did_you_mean(name, options, f"--{place}.") or f"; sae fit --{place}.help {class_name} lists them")


def options_of(kind: type) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of a class by name, also those that it passes on to its base by keyword."""
    options: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = dict(inspect.signature(base.__init__).parameters)  # type: ignore[misc]
            options = {name: parameter for name, parameter in parameters.items() if name != "self"} | options
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return {name: option for name, option in options.items() if option.kind is not option.VAR_KEYWORD}


def subclasses_of(base: type) -> Iterator[type]:
    """Yield all subclasses that are imported, subclasses of subclasses included."""
    subclass: type
    for subclass in base.__subclasses__():
        yield subclass
        yield from subclasses_of(subclass)
