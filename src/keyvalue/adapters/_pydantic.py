"""Rows of anything that pydantic validates.

A row is the value in pydantic's JSON form, by the names of fields (not their aliases), without computed fields. What is no JSON object
by its type is stored as `{"items": <value>}`. That is the layout of py-key-value-aio, with these additions: secrets are stored as they
are, and bytes that are not UTF-8 as `{"__keyvalue_bytes__": <base64>}`. (An object of the caller's with just that key is stored as
`{"__keyvalue_bytes__": <the object>}`.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import partial
from itertools import dropwhile
from math import isfinite
from typing import Any, Generic, TypeGuard, TypeVar, cast, get_origin

from keyvalue._core import codec, wording
from keyvalue._core.envelope import from_base64, to_base64
from keyvalue._core.extras import needs
from keyvalue.adapters._typed import InvalidRowError
from keyvalue.errors import SerializationError

with needs("pydantic"):
    from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import PydanticOmit, PydanticSerializationError, to_jsonable_python

__all__ = ["PydanticConverter"]

T = TypeVar("T")

_ITEMS, _BYTES = "items", "__keyvalue_bytes__"
_MARK = _BYTES.encode()
_SHOWN = 3  # errors of validation that a message names
_NOTHING: Any = object()
_OF_TYPES = frozenset({"typing", "typing_extensions", "types", "annotationlib"})  # modules with objects that stand for types
_CANT_DUMP = (PydanticSerializationError, ValueError, TypeError, AttributeError, RecursionError)
_ADVICE = "declare its type, of several a discriminated union, or pass exact=False to the adapter to store it all the same"


class _LenientSchema(GenerateJsonSchema):
    """A schema without what JSON schema has no form for, such as callables."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
        raise PydanticOmit


class PydanticConverter(Generic[T]):
    """Turns values of a type into rows and back.

    Args:
        kind: The type.
        wraps: Whether values are stored as `{"items": …}`. None: whether the type's schema is not that of an object.
        exact: Whether a value that would not come back equal is refused. If False, one is that could not be read at all.
    """

    def __init__(self, kind: Any, wraps: bool | None = None, *, exact: bool = True) -> None:
        if not _is_type(kind):
            raise TypeError(f"An adapter takes a type, such as User or list[User], not {wording.describe(kind)}")
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        to: Any = partial(self._adapter.dump_python, by_alias=False, round_trip=True, warnings=False)
        self._to_python, self._to_json = partial(to, mode="python"), partial(to, mode="json")
        self._warnings: Any = {"warnings": "error"} if exact else {}
        self._exact = exact
        # Of other types, values need not be instances.
        self._class: Any = kind if _is_model(kind) else None
        self._name = kind.__qualname__ if isinstance(kind, type) and get_origin(kind) is None else str(kind).replace("typing.", "")
        schema: dict[str, Any] = {}
        if wraps is None:
            with suppress(PydanticOmit):
                schema = self._adapter.json_schema(schema_generator=_LenientSchema)
        self._wraps = schema.get("type") != "object" if wraps is None else wraps
        # A put compares values, to tell what comes back. A read has nothing to compare with, so these three come from the schema: which
        # words of errors are not data, which fields of a row were computed, and whether an alias is also the name of another field.
        schema_parts = list(_walk(self._adapter.core_schema))
        self._known = {text for text in schema_parts if isinstance(text, str)}
        self._computed = {part["property_name"] for part in schema_parts if _is_map(part) and part.get("type") == "computed-field"}
        self._has_crossed_aliases = any(_is_map(part) and _crosses_aliases(part) for part in schema_parts)

    def dump(self, value: T) -> dict[str, Any]:
        """Return the row of a value.

        Raises:
            SerializationError: It is no value of the type, or would not come back equal. The message says where.
        """
        row: Any = _NOTHING
        with suppress(*_CANT_DUMP):  # these quote the value, so no refusal is chained to them
            row = self._dump_if_plain(value)
        if row is _NOTHING:
            with suppress(*_CANT_DUMP):
                row = self._dump_fully(value)
            why = self._find_obstacle(value) if row is _NOTHING else self._find_loss(value, row)
            if why:
                if self._class is not None and not isinstance(value, self._class):
                    why = f"it is {wording.describe(value)}; give {wording.add_article(self._name)}"
                raise SerializationError(f"Could not serialize the value as {self._name}: {why}")
        return {_ITEMS: row} if self._wraps else row

    def load(self, row: dict[str, Any]) -> T:
        """Return the value of a row.

        Raises:
            InvalidRowError: The row is no value of the type.
        """
        if self._wraps and _ITEMS not in row:
            raise InvalidRowError(self._name, f"it has no field `{_ITEMS}`", [{"type": "missing", "loc": (_ITEMS,)}])
        data: Any = row[_ITEMS] if self._wraps else row
        errors: list[Any] = []
        for _ in range(2):
            try:
                return self._validate(data)
            except ValidationError as error:
                errors = _list_errors(error)
            except RecursionError:
                break
            # Rows of py-key-value-aio hold computed fields, which a model may forbid as extra ones.
            places = [problem["loc"] for problem in errors if problem["type"] == "extra_forbidden" and problem["loc"]]
            computed = [place for place in places if place[-1] in self._computed]
            if not computed:
                break
            data = _remove(data, computed)
        for problem in errors:  # keys that are no known names are data
            problem["loc"] = tuple(step if isinstance(step, int) or step in self._known else "…" for step in problem["loc"])
        raise InvalidRowError(self._name, _show(errors) if errors else "it is nested too deep", errors)

    def _dump_if_plain(self, value: T) -> Any:
        """Return the row of a value that pydantic's own JSON form holds exactly, as it does most; of any other, `_NOTHING`.

        Comparing all costs a sixth of a put of a model. Telling from its type where that is needless took six times as long for Any.
        """
        row = self._to_json(value, **self._warnings)
        encoded = codec.encode(row)
        if _MARK in encoded or not (self._wraps or _is_map(row)):
            return _NOTHING
        return row if self._is_equal(value, self._parse(encoded)) else _NOTHING

    def _is_equal(self, value: T, found: T) -> bool:
        """Return whether two values are equal by their own notion, which may leave fields out, and by their contents, without classes."""
        with suppress(*_CANT_DUMP):  # the equality of arrays raises
            return bool(value == found and self._to_python(value) == self._to_python(found))
        return False

    def _dump_fully(self, value: T) -> Any:
        plain = self._to_python(value, **self._warnings)
        with suppress(PydanticSerializationError, UnicodeDecodeError):
            return _complete(self._to_json(value, **self._warnings), plain)
        return _to_jsonable(_complete(plain, plain))  # there may be bytes in it that are not UTF-8

    def _validate(self, data: Any) -> T:
        encoded = _encode(data)
        if encoded is None or _MARK in encoded:
            blobs: list[bytes] = []
            data = _unmark(data, blobs)
            encoded = None if blobs else _encode(data)
        return self._parse(encoded, data)

    def _parse(self, encoded: bytes | None, data: Any = None) -> T:
        parse: Any = self._adapter.validate_json
        strict, source = None, encoded
        if encoded is None:  # there are bytes in it, or whatever another library's store gave
            parse, strict, source = self._adapter.validate_python, False, data
        if self._has_crossed_aliases:
            # Rows go by the names of fields; only where that fails may it be one that another program wrote by aliases.
            with suppress(ValidationError):
                return parse(source, strict=strict, by_alias=False, by_name=True)
        return parse(source, strict=strict, by_alias=True, by_name=True)

    def _find_loss(self, value: T, row: Any) -> str | None:
        """Return what would be lost of a value that is stored as a row, and where, or None."""
        if not (self._wraps or _is_map(row)):
            return f"it becomes {wording.describe(row)}, though its schema is that of an object"
        try:
            codec.encode(row)
            found: Any = self._validate(row)
        except SerializationError as error:  # such as NaN
            return error.message.partition(": ")[2]
        except ValidationError as error:
            problem = _list_errors(error)[0]
            return (
                f"{_locate(problem, row, value)[0]} is not valid when it is read back ({problem['type']}); give a valid one, let "
                "validators take what serializers write, and exclude no field that must be there"
            )
        if not self._exact or self._is_equal(value, found):
            return None
        if not (isinstance(value, type(found)) or value == found or _is_object(value) or (_is_url(value) and _is_url(found))):
            return _describe_change("value", value, found)
        # By their contents: not every class has an equality.
        return _find_difference("value", value, found, self._to_python(value), self._to_python(found))

    def _find_obstacle(self, value: T) -> str:
        """Return why a value can't be dumped, and where it is."""
        obstacle = _find_undumpable("value", value)
        if obstacle:
            return obstacle
        for strict in (False, True):
            row: Any = None
            try:
                row = self._to_json(value)
                self._adapter.validate_json(codec.encode(row), strict=strict, by_alias=False, by_name=True)
            except ValidationError as error:
                problem = _list_errors(error)[0]
                place, there = _locate(problem, row, value)
                return f"{place} is {wording.describe(there)}, which its type does not take ({problem['type']})"
            except _CANT_DUMP:
                break
        return "it holds something that its type does not take"


def _is_type(kind: object) -> bool:
    return kind is None or isinstance(kind, type) or get_origin(kind) is not None or type(kind).__module__ in _OF_TYPES


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(cast("object", kind)))


def _is_object(value: Any) -> bool:
    return _is_model(type(value))


def _is_root(value: Any) -> TypeGuard[RootModel[Any]]:
    return isinstance(value, RootModel)


def _is_map(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_group(value: Any) -> TypeGuard[Collection[Any]]:
    return isinstance(value, list | tuple | set | frozenset)


def _is_url(value: Any) -> bool:
    return hasattr(value, "unicode_string")  # pydantic's URLs have no public base


def _walk(schema: Any) -> Iterator[Any]:
    """Yield all parts of a core schema, down to the texts in it."""
    left, seen = [schema], set[int]()
    while left:
        part = left.pop()
        yield part
        if id(part) not in seen and (_is_map(part) or _is_sequence(part)):
            seen.add(id(part))
            left += part
            left += part.values() if _is_map(part) else ()


def _crosses_aliases(part: Mapping[Any, Any]) -> bool:
    """Return whether a field of this part of a core schema is also read from where another one is by its name."""
    own: Any = part.get("fields") if part.get("type") in ("model-fields", "dataclass-args", "typed-dict") else ()
    named: Mapping[str, Any] = own if _is_map(own) else {field["name"]: field for field in own}
    for name, field in named.items():
        alias: Any = field.get("validation_alias")
        paths = alias if _is_sequence(alias) and not isinstance(alias[0], str) else [alias]
        if any(first != name and first in named for first in (path[0] if _is_sequence(path) else path for path in paths)):
            return True
    return False


def _find_difference(place: codec.Place, value: Any, found: Any, plain: Any, plain_found: Any) -> str | None:
    """Return what has not come back, and where, or None.

    Args:
        place: What messages call the value.
        value: The value.
        found: What came back.
        plain: The value's dump in Python's own types, in which models are dictionaries.
        plain_found: That of what came back.
    """
    while _is_root(value) and _is_root(found) and isinstance(value, type(found)):
        value, found = value.root, found.root
    if _is_object(value) and found is not _NOTHING and not isinstance(value, type(found)):
        # Where the type says Any, a model comes back as its JSON.
        return _describe_change(place, value, found) if _is_object(found) else None
    for one, other in ((value, found), (plain, plain_found)):  # a dump leaves out what a typed dict has not
        if _is_map(one) and _is_map(other):
            keys = set(map(_normalize, other))
            gone = [(position, key) for position, key in enumerate(one) if _normalize(key) not in keys]
            if gone:
                return _describe_loss((place, gone[0][1], gone[0][0]), "would not come back")
            if len(one) != len(other):
                return _describe_loss(place, "would come back with other keys")
    if not (_is_map(plain) and _is_map(plain_found)):
        if not (_is_sequence(plain) and type(plain) is type(plain_found)):
            is_kept = _normalize(plain) == _normalize(plain_found) or _is_same_time(plain, plain_found)
            return None if is_kept else _describe_change(place, plain, plain_found)
        if len(plain) != len(plain_found) or (_is_sequence(value) and len(value) != len(plain)):
            return _describe_loss(place, "would come back with another length")
    others = {_normalize(key): other for key, other in _iter_members(plain_found)}
    values, values_found = dict(_iter_members(value)), dict(_iter_members(found))
    for position, (key, one) in enumerate(_iter_members(plain)):
        pair = values.get(key, _NOTHING), values_found.get(key, _NOTHING)
        loss = _find_difference((place, key, position), *pair, one, others[_normalize(key)])
        if loss:
            return loss
    return None


def _describe_change(place: codec.Place, value: Any, found: Any) -> str:
    if isinstance(value, float) and not isfinite(value):
        return _describe_loss(place, "is not a finite number", "store None or a string")
    if type(value) is type(found):
        return _describe_loss(place, f"would come back as another {type(value).__name__}")
    return _describe_loss(place, f"is {wording.describe(value)} and would come back as {wording.describe(found)}")


def _describe_loss(place: codec.Place, what: str, advice: str = _ADVICE) -> str:
    return f"{codec.told(place)} {what}; {advice}"


def _is_same_time(plain: Any, found: Any) -> bool:
    """Return whether two times are the same, though Python calls them unequal: one that its zone has twice equals none of another zone."""
    return isinstance(plain, datetime) and isinstance(found, datetime) and plain.isoformat() == found.isoformat()


def _normalize(plain: Any) -> Any:
    """Return something equal for what is the same, though Python calls it unequal."""
    if _is_url(plain):  # equal only within one class, of which the type may name another
        return "URL", plain.unicode_string()
    return frozenset(map(_normalize, cast("Collection[Any]", plain))) if isinstance(plain, set | frozenset) else plain


def _iter_members(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a value is made of, each member with its key or position."""
    if _is_root(value):
        yield from _iter_members(value.root)
    elif isinstance(value, BaseModel):
        yield from BaseModel.__iter__(value)
    elif _is_object(value):
        yield from ((field.name, getattr(value, field.name, None)) for field in fields(value))
    elif _is_map(value):
        yield from value.items()
    elif _is_group(value):
        yield from enumerate(value)


def _find_undumpable(place: codec.Place, value: Any, above: tuple[int, ...] = ()) -> str | None:
    """Return what pydantic can't serialize of a value, and where, or None."""
    if id(value) in above:
        return f"{codec.told(place)} is one of the containers that it is in; circular references can't be stored"
    if len(above) == codec.MAX_DEPTH:
        return f"{codec.told(place)} is nested more than {codec.MAX_DEPTH} levels deep"
    if _is_dumpable(value):
        return None
    is_map = _is_map(value)
    for position, (key, member) in enumerate(_iter_members(value)):
        inner: codec.Place = (place, key, position)
        found = _find_undumpable(inner, member, (*above, id(value)))
        if not found and is_map and not _is_dumpable({key: None}):
            found = f"{codec.told(place)} has a key that is {wording.describe(key)} (key #{position + 1}); JSON takes only strings"
        if not found and _is_object(value) and not _is_dumpable(value, {key}):  # its field has a serializer of its own
            found = f"{codec.told(inner)} is {wording.describe(member)}, which the serializer of this field does not take"
        if found:
            return found
    if is_map or _is_group(value):
        return f"{codec.told(place)} is nested too deep to be serialized"
    return f"{codec.told(place)} is {wording.describe(value)}, which can't be serialized; {wording.suggest_conversion(value)}"


def _is_dumpable(value: Any, only: set[Any] | None = None) -> bool:
    try:
        to_jsonable_python(value, include=only, by_alias=False, round_trip=True, bytes_mode="base64")
    except _CANT_DUMP:
        return False
    return True


def _complete(row: Any, plain: Any) -> Any:
    """Return a row with its secrets, and in which bytes that are not UTF-8 can be told.

    Args:
        row: The value in pydantic's JSON form; the same as `plain` if it has none.
        plain: The value in Python's own types.
    """
    if isinstance(plain, SecretStr | SecretBytes | Secret):
        secret = cast("Secret[Any]", plain).get_secret_value()
        row = plain = secret if isinstance(secret, bytes) else _to_jsonable(secret)
    if isinstance(row, bytes | bytearray):
        try:
            return row.decode()
        except UnicodeDecodeError:
            return {_BYTES: to_base64(bytes(row))}
    if row is None and isinstance(plain, float):  # where the type says Any, pydantic writes null for what is not finite
        return plain
    # Both come from one value, so in one order; keys may look different.
    if _is_map(row):
        others = plain.values() if _is_map(plain) and len(plain) == len(row) else row.values()
        completed = {key: _complete(one, other) for (key, one), other in zip(row.items(), others, strict=True)}
        return {_BYTES: completed} if {*completed} == {_BYTES} else completed
    if _is_group(row):
        others = plain if _is_group(plain) and len(plain) == len(row) else row
        return [_complete(one, other) for one, other in zip(row, others, strict=True)]
    return row


def _to_jsonable(value: Any) -> Any:
    return to_jsonable_python(value, inf_nan_mode="constants", by_alias=False)


def _unmark(value: Any, blobs: list[bytes]) -> Any:
    """Return a row with the bytes that `_complete` has marked, which are also added to a list, and without its marks."""
    if _is_map(value):
        if {*value} == {_BYTES}:
            inner = value[_BYTES]
            if isinstance(inner, str):
                try:
                    blobs.append(from_base64(inner))
                except ValueError:
                    return value
                return blobs[-1]
            value = inner if _is_map(inner) else value
        return {key: _unmark(one, blobs) for key, one in value.items()}
    return [_unmark(one, blobs) for one in value] if _is_sequence(value) else value


def _encode(data: Any) -> bytes | None:
    """Return JSON, or None for what JSON has no form for."""
    try:
        return codec.encode(data)
    except SerializationError:
        return None


def _remove(data: Any, places: Sequence[Sequence[int | str]]) -> Any:
    """Return a copy of a row without the fields at some places. A place may also name members of unions on its way."""
    if not places or not (_is_map(data) or _is_sequence(data)):
        return data
    steps = dict(_iter_members(data))
    paths = [path for place in places if (path := list(dropwhile(lambda step: step not in steps, place)))]
    gone = {path[0] for path in paths if len(path) == 1}
    left = {step: _remove(one, [path[1:] for path in paths if path[0] == step]) for step, one in steps.items() if step not in gone}
    return left if _is_map(data) else list(left.values())


def _list_errors(problem: ValidationError) -> list[Any]:
    """Return what is wrong and where, without what is there."""
    errors = problem.errors(include_url=False, include_input=False, include_context=False)
    return [{"type": error["type"], "loc": error["loc"]} for error in errors]


def _show(errors: Sequence[Any]) -> str:
    shown = [f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['type']}" for error in errors[:_SHOWN]]
    return "; ".join(shown) + (f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else "")


def _locate(error: Any, row: Any, value: Any) -> tuple[str, Any]:
    """Return where in a row an error is, and what is there: in the value, if that can be told, else in the row."""
    place: codec.Place = "value"
    for step in error["loc"]:  # which may also name a member of a union, or a field that is missing
        members = dict(_iter_members(row))
        if step in members:
            place = (place, step, list(members).index(step))
            row, value = members[step], dict(_iter_members(value)).get(step, _NOTHING)
        elif error["type"] == "missing":
            place = (place, step, 0)
    return codec.told(place), row if value is _NOTHING else value
