"""Objects of the user's own, named `module:name`, and the list of those that files may name."""

import importlib
import inspect
import re
from typing import Any, TypeVar

_NAME = re.compile(r"[^\W\d][\w.-]*:[^\W\d]\w*")
_TRUSTED: set[str] = set()

Kind = TypeVar("Kind")


def is_own(name: str) -> bool:
    """Tell whether a name has the form `module:name`, as the name of the user's own code has."""
    return _NAME.fullmatch(name) is not None


def trust(name: str) -> None:
    """Let files name `module:name`, or several with commas: the modules' code runs where such a file is used."""
    _TRUSTED.update(name.split(","))


def is_trusted(name: str) -> bool:
    """Tell whether files may name `module:name`."""
    return name in _TRUSTED


def trusted() -> list[str]:
    """Return the names that files may name, for another process to `trust`."""
    return sorted(_TRUSTED)


def check_trusted(name: str, source: object, what: str = "code") -> None:
    """Refuse to import code that a file names, unless `trust` was called for it.

    Args:
        name: the name in the file, `module:name`.
        source: the file, for the error.
        what: the kind of thing named, for the error: "an agent".

    Raises:
        ValueError: `trust` was not called for the name.
    """
    if not is_trusted(name):
        raise ValueError(
            f"{source} names {what} that is no part of this library, {name}: using it runs its code. "
            f"If you trust it, say so: a3d --trust {name} COMMAND ..., or backbone.own.trust({name!r}) in Python"
        )


def load_own(name: str, what: str) -> object:
    """Import the user's own object `module:name`; the `a3d` command finds modules in the current folder, too.

    Args:
        name: the module and the name in it.
        what: the kind of thing wanted, for the error: "agent".

    Raises:
        ValueError: the name does not have that form, the module can't be imported, or it holds no such name.
    """
    if not is_own(name):
        raise ValueError(f"{name!r} names no {what} of your own: write module:name, as in mine:Name")
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the {what} {name!r} can't be imported: {error}") from error


def make_own(name: str, what: str, kind: type[Kind], **arguments: Any) -> Kind:
    """Call the user's own class or function `module:name`, and return the object that it makes.

    Args:
        name: the module and the name in it.
        what: the kind of thing wanted, for the error: "backbone".
        kind: the class that the object must be an instance of.
        arguments: keyword arguments of the call.

    Raises:
        ValueError: unknown name, an object that can't be called like this, or a result of another class.
    """
    build: Any = load_own(name, what)
    wanted = f"a class or a function that makes a {kind.__module__}.{kind.__qualname__}"
    if not callable(build):
        raise ValueError(f"the {what} {name} has to be {wanted}, got an object of type {type(build).__name__}")
    try:
        inspect.signature(build).bind(**arguments)
    except TypeError as error:
        call = f"with the keywords {', '.join(arguments)}" if arguments else "without arguments"
        raise ValueError(f"the {what} {name} has to be {wanted} when it is called {call}: {error}") from error
    made = build(**arguments)
    if not isinstance(made, kind):
        raise ValueError(f"the {what} {name} has to be {wanted}, and made an object of type {type(made).__name__}")
    return made


def shape_of(value: object) -> tuple[int, ...] | str:
    """Return a tensor's shape, or for the error of who got something else, what that is."""
    return tuple(value.shape) if hasattr(value, "shape") else f"an object of type {type(value).__name__}"
