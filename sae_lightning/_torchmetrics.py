"""Let torchmetrics be imported without its metrics, where nothing but its base classes is used.

Lightning imports `Metric` and `MetricCollection`, and `import torchmetrics` imports all of its metrics with them, and
torchvision, transformers and scipy for these: that nearly doubles what importing Lightning costs. So the package is
made without running its ``__init__.py``, which runs when somebody asks for anything else in it. From then on it is what
it always is.
"""

import logging
import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

_NAME = "torchmetrics"
_LIGHT = {"Metric": "metric", "MetricCollection": "collections", "__version__": "__about__"}
"""What is had without the rest, by the module that it is in."""
_lock = RLock()


class _Package(ModuleType):
    """torchmetrics before its ``__init__.py`` has run."""

    def __getattr__(self, name: str) -> Any:
        if name == "_logger":  # of messages, which the light modules write too
            return logging.getLogger(_NAME)
        if name in _LIGHT:
            try:
                return _light(name)
            except ImportError:  # another version, in which they need the rest
                for other in [other for other in sys.modules if other.startswith(f"{_NAME}.")]:
                    del sys.modules[other]
        elif name.startswith("__") and name != "__all__":  # the import system asks
            raise AttributeError(name)
        _load(self)
        return getattr(self, name)


class _LoadLater(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing yet."""


class _IsLoaded(Loader):
    """Loads what was imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec, self.loader = module, module.__spec__, module.__loader__
        module.__spec__ = None  # else the import system takes that, and runs the module again

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing again; the import system has taken the loader's place."""
        module.__spec__, module.__loader__ = self.spec, self.loader


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package != _NAME:
            return None
        if not rest:
            spec = PathFinder.find_spec(fullname, path)
            if spec is not None and spec.loader is not None:
                spec.loader = _LoadLater(spec.loader)
            return spec
        if not _is_light(rest.partition(".")[0]):
            _load(sys.modules[_NAME])
        module = sys.modules.get(fullname)
        return None if module is None else ModuleSpec(fullname, _IsLoaded(module))


def _is_light(submodule: str) -> bool:
    """Return whether a submodule can be imported without the rest."""
    if submodule in ("metric", "collections"):
        return f"{_NAME}.utilities" in sys.modules  # each imports the other, which works in this order alone
    return submodule in ("utilities", "__about__")


def _light(name: str) -> Any:
    if name != "__version__":
        import_module(f"{_NAME}.utilities")
    return getattr(import_module(f"{_NAME}.{_LIGHT[name]}"), name)


def _load(package: ModuleType) -> None:
    """Run the ``__init__.py`` of torchmetrics, unless it has run or runs."""
    with _lock:
        if isinstance(package, _Package):
            package.__class__ = ModuleType  # type: ignore[assignment]
            assert package.__spec__ is not None
            assert isinstance(package.__spec__.loader, _LoadLater)
            package.__spec__.loader = package.__loader__ = loader = package.__spec__.loader.loader
            loader.exec_module(package)


def load_later() -> None:
    """Put off the import of torchmetrics, unless it has been imported; imports nothing."""
    if _NAME not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
