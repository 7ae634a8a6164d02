"""In every test, functions of the package look at the types and shapes of what they are given and return.

So does the import hook of jaxtyping, which took more than half of the time of all tests: it compiles two checks for
each function as it is imported, binds and checks the arguments of a call twice, and keeps from their compiled files the
libraries that a module imports. Here a function has one check, compiled when it is first called, and a context in which
its dimensions have to agree only if it names shapes. `conftest.py` imports this before the package.
"""

import ast
import builtins
import inspect
import sys
from functools import wraps
from importlib.machinery import PathFinder, SourceFileLoader
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import beartype
from beartype.door import die_if_unbearable

PACKAGE = "sae_lightning"
_COMPILED = set()


def names_shapes(hint):
    """Whether there is an array of jaxtyping in a hint, or in a list of them, as a Callable has."""
    parts = hint if isinstance(hint, list) else get_args(hint)
    return inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray) or any(map(names_shapes, parts))


def resolved(hint, names):
    """A hint with classes in place of their names, or Any where these are imported for static checks alone."""

    def annotated(value: hint):
        pass

    try:
        return get_type_hints(annotated, names, include_extras=True)["value"]
    except NameError:
        return Any


def compiled(function):
    """The function, with a check."""
    names = function.__globals__
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__, copy.__module__ = function.__kwdefaults__, function.__module__
    copy.__qualname__ = function.__qualname__
    copy.__annotations__ = {name: resolved(hint, names) for name, hint in function.__annotations__.items()}
    if not any(map(names_shapes, copy.__annotations__.values())):
        return beartype(copy)
    checking = looks_at_arguments(copy) if inspect.isgeneratorfunction(copy) else beartype(copy)

    def with_one_size_of_each_dimension(*args, **kwargs):
        with jaxtyping.jaxtyped("context"):
            return checking(*args, **kwargs)

    return with_one_size_of_each_dimension


def looks_at_arguments(function):
    """A generator function that checks when it is called, since it runs between the dimensions of its callers."""
    signature, hints = inspect.signature(function), function.__annotations__

    def looking(*args, **kwargs):
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in hints:
                die_if_unbearable(value, hints[name])
        return function(*args, **kwargs)

    return looking


def check_types(what):
    """A function that checks; of a class, what the values of a dataclass are."""
    if inspect.isclass(what):
        if "__dataclass_fields__" in vars(what):
            what.__init__ = check_types(what.__init__)
        return what
    checking = None

    @wraps(what)
    def checked(*args, **kwargs):
        nonlocal checking
        if jaxtyping.config.jaxtyping_disable:
            return what(*args, **kwargs)
        if checking is None:
            # A function within a function is another each time that the outer one runs; the first of them is checked.
            again = what.__code__ in _COMPILED and "<locals>" in what.__qualname__
            checking = what if again else compiled(what)
            _COMPILED.add(what.__code__)
        return checking(*args, **kwargs)

    return checked


class _Decorate(ast.NodeTransformer):
    """Put `check_types` next to each function, and before what makes a class a dataclass."""

    def visit_ClassDef(self, node):
        return self._decorated(node, 0)

    def visit_FunctionDef(self, node):
        return self._decorated(node, len(node.decorator_list))

    def _decorated(self, node, place):
        if any(getattr(decorator, "id", "") == "no_type_check" for decorator in node.decorator_list):
            return node
        decorator = ast.Name(check_types.__name__, ast.Load())
        node.decorator_list.insert(place, ast.copy_location(decorator, node))
        return self.generic_visit(node)


class _Loader(SourceFileLoader):
    def get_code(self, fullname):
        """Compile the source: a compiled file would be one without checks."""
        return self.source_to_code(self.get_data(self.path), self.path)

    def source_to_code(self, data, path, *, _optimize=-1):
        return super().source_to_code(_Decorate().visit(ast.parse(data, path)), path)


class _Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = super().find_spec(fullname, path, target) if fullname.partition(".")[0] == PACKAGE else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


assert PACKAGE not in sys.modules, "it was imported before its functions could be given checks"
setattr(builtins, check_types.__name__, check_types)
sys.meta_path.insert(0, _Finder)
