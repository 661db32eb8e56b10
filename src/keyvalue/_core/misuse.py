"""Advice in the errors of stores, wrappers and the façade that are used in a way that can't work.

It only runs where Python would raise an error anyway, so correct calls pay nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

__all__ = ["CAPABILITIES", "IN_ONE_PROCESS", "Explaining", "Lacking", "Misused", "explain_if_lacking", "show_signatures"]

CAPABILITIES = {
    "keys": ("list keys", "EnumerateKeysProtocol"),
    "collections": ("list collections", "EnumerateCollectionsProtocol"),
    "destroy": ("remove all its entries at once", "DestroyStoreProtocol"),
    "destroy_collection": ("remove a collection at once", "DestroyCollectionProtocol"),
    "cull": ("list entries that have expired", "CullProtocol"),
}
"""The optional methods, each with what it does and the name of its protocol, without "Async"."""
IN_ONE_PROCESS = (
    ": its entries live in this process only. Share the one that you have, or use a store that processes can share, such as a DiskStore or "
    "a RedisStore"
)
"""Part of the error when a store in memory is pickled or copied."""
_METHODS = {"get", "get_many", "ttl", "ttl_many", "put", "put_many", "delete", "delete_many", *CAPABILITIES}


def show_signatures(kind: type[Any]) -> None:
    """Have Python's own error about a wrong call of a method of the protocols show what the method takes.

    Python starts that error with the method's qualified name and "()", so this puts the parameters before the bare name.
    Any other way to add to the error would be one more call around each of these methods.
    """
    for name, method in vars(kind).items():
        if name in _METHODS and inspect.isfunction(method) and ")" not in method.__qualname__:
            parameters = list(inspect.signature(method).parameters.values())[1:]
            bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
            method.__qualname__ += f"{inspect.Signature(bare)}: {name}"


class Misused:
    """Takes the place of a missing attribute, such as that for the wrong kind of `with`, and raises an error with advice.

    Args:
        advice: What to do instead.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        # Not a TypeError, for which hasattr() is not false.
        raise AttributeError(f"{owner.__name__}: {self._advice}")


class Explaining:
    """The base of stores, wrappers and the façade."""

    _prefix_of_protocols = "Async"
    _instead_of_copying = (
        ", because of its connections, locks and threads. Share the one that you have, or make one where it is needed: in each process, "
        "from the same arguments"
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("keyvalue."):  # leaves subclasses of other packages alone
            show_signatures(cls)

    def _beneath(self) -> Sequence[object]:
        """Return the objects that this one wraps, as far as they are known."""
        return ()

    def __reduce__(self) -> Any:
        """Refuse to be pickled or copied."""
        raise TypeError(f"A {type(self).__name__} can't be pickled or copied{self._instead_of_copying}")


class Lacking:
    """The base of classes without some of the optional methods. In other classes, `__getattr__` would slow down every attribute access."""

    if not TYPE_CHECKING:  # or type checkers would take any attribute for one that is there

        def __getattr__(self, name: str) -> Any:
            if name not in CAPABILITIES:
                return object.__getattribute__(self, name)  # again, as a property of that name may have raised an error of its own
            raise AttributeError(_explain_missing(self, name), name=name, obj=self)


def explain_if_lacking(kind: type[Any]) -> None:
    """Have instances of a concrete class explain which optional methods they lack, if any."""
    abstract = {name for base in kind.__mro__ for name in (*getattr(base, "__abstractmethods__", ()), *vars(base))}
    is_abstract = any(getattr(getattr(kind, name, None), "__isabstractmethod__", False) for name in abstract)
    if not is_abstract and not all(hasattr(kind, name) for name in CAPABILITIES) and not hasattr(kind, "__getattr__"):
        kind.__getattr__ = vars(Lacking)["__getattr__"]


def _explain_missing(instance: Any, name: str) -> str:
    """Return the message about a missing optional method."""
    kind = type(instance).__name__
    can, protocol = CAPABILITIES[name]
    beneath: Sequence[object] = instance._beneath()
    incapable = [type(one).__name__ for one in beneath if not hasattr(one, name)]
    if incapable:
        reason = f"it is over {' and '.join(incapable)}, which can't {can}"
    elif beneath:
        reason = f"it can't {can} for its caller alone, or must not"
    else:
        reason = f"it can't {can}"
    asks = f"isinstance(…, {instance._prefix_of_protocols}{protocol})"
    return f"{kind} has no {name}(): {reason}. {asks} tells; the documentation of the stores says which of them can"
