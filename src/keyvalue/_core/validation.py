"""Rows of anything that pydantic validates.

A row is the value in pydantic's JSON form, by the names of fields (not their aliases), without computed fields. What is no JSON object
by its type is stored as `{"items": <value>}`. That is the layout of py-key-value-aio, with these additions: secrets are stored as they
are, and bytes that are not UTF-8 as `{"__keyvalue_bytes__": <base64>}`. (An object of the caller's with just that key is stored as
`{"__keyvalue_bytes__": <the object>}`.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from datetime import datetime
from itertools import dropwhile
from typing import Any, Generic, TypeGuard, TypeVar, cast, get_args, get_origin

from keyvalue._core import arguments, codec
from keyvalue._core.envelope import from_base64, to_base64
from keyvalue._core.extras import needs
from keyvalue.errors import DeserializationError, SerializationError

with needs("pydantic"):
    from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import PydanticOmit, PydanticSerializationError, to_jsonable_python

__all__ = ["PydanticConverter", "of_any_type", "of_base_model", "of_dataclass"]

T = TypeVar("T")

_ITEMS, _BYTES = "items", "__keyvalue_bytes__"
_SHOWN = 3  # errors of validation that a message names
# Types of pydantic's core schema whose values JSON keeps, as long as what they are made of does; all else is compared when it is put.
_EXACT = frozenset(
    {"model", "model-fields", "model-field", "dataclass", "dataclass-args", "dataclass-field", "typed-dict", "typed-dict-field"}
    | {"computed-field", "nullable", "default", "definitions", "definition-ref", "list", "set", "frozenset", "tuple", "tagged-union"}
    | {"none", "bool", "int", "float", "str", "bytes", "date", "datetime", "time", "timedelta", "decimal", "uuid"}
)


class _LenientSchema(GenerateJsonSchema):
    """A schema without what JSON schema has no form for, such as callables."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
        raise PydanticOmit


class PydanticConverter(Generic[T]):
    """Turns values of a type into rows and back.

    Args:
        kind: The type.
        wraps: Whether values are stored as `{"items": …}`. None: whether the type's schema is not that of an object.
    """

    def __init__(self, kind: Any, wraps: bool | None = None) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        # Of other types, values need not be instances.
        self._class: Any = kind if _is_model(kind) else None
        self._name = kind.__qualname__ if isinstance(kind, type) and get_origin(kind) is None else str(kind).replace("typing.", "")
        try:
            schema = self._adapter.json_schema(schema_generator=_LenientSchema)
        except PydanticOmit:
            schema = {}
        self._wraps = schema.get("type") != "object" if wraps is None else wraps
        parts = list(_parts(self._adapter.core_schema))
        self._computed = {field["property_name"] for part in parts for field in part.get("computed_fields") or ()}
        self._is_exact = all(map(_is_exact, parts))
        self._known = self._computed.union(*map(_names, parts))
        self._is_ambiguous = any(map(_is_ambiguous, parts))

    def dump(self, value: T) -> dict[str, Any]:
        """Return the row of a value.

        Raises:
            SerializationError: It is no value of the type, or would not come back equal.
        """
        try:
            row: Any = self._dumped(value)
        except (PydanticSerializationError, ValueError, TypeError, AttributeError) as error:
            raise self._of_another_type(value) or SerializationError(f"The value can't be stored as {self._name}: {_what(error)}") from None
        if self._wraps:
            row = {_ITEMS: row}
        elif not _is_row(row):
            raise SerializationError(f"{self._name} serializes to {type(row).__name__}, though its schema is that of an object")
        if not self._comes_back(value, row):
            raise self._of_another_type(value) or SerializationError(
                f"The value would not come back from JSON as it is by {self._name}; give a type that tells apart all that it takes, such "
                "as a discriminated union, excludes no field, and changes nothing that it validates"
            )
        return row

    def load(self, row: dict[str, Any]) -> T:
        """Return the value of a row.

        Raises:
            DeserializationError: The row is no value of the type.
        """
        data: Any = row
        if self._wraps:
            if _ITEMS not in row:
                raise DeserializationError(f"The stored entry is no {self._name}: it has no field `{_ITEMS}`")
            data = row[_ITEMS]
        try:
            return self._validated(data)
        except ValidationError as error:
            problem = error
        except RecursionError:
            raise DeserializationError(f"The stored entry is no {self._name}: it is nested too deep") from None
        # Rows of the predecessor hold computed fields, which a model may forbid as extra ones.
        places = [tuple(one["loc"]) for one in problem.errors(include_url=False, include_input=False) if one["type"] == "extra_forbidden"]
        computed = [place for place in places if place and place[-1] in self._computed]
        if computed:
            try:
                return self._validated(_without(data, computed))
            except ValidationError as error:
                problem = error
        raise DeserializationError(f"The stored entry is no {self._name}: {_errors(problem, self._known)}") from None

    def _of_another_type(self, value: object) -> SerializationError | None:
        if self._class is None or isinstance(value, self._class):
            return None
        if _is_map(value):
            return SerializationError(
                f"The value can't be stored as {self._name}: it is {arguments.article(value)}; give {arguments.with_article(self._name)}"
            )
        return SerializationError(f"The value is {arguments.article(value)}, not {arguments.with_article(self._name)}")

    def _dumped(self, value: T) -> Any:
        options: dict[str, Any] = {"by_alias": False, "round_trip": True, "warnings": "error"}
        try:
            row = self._adapter.dump_python(value, mode="json", **options)
        except (PydanticSerializationError, UnicodeDecodeError):
            # Either it holds bytes that are not UTF-8, or this raises the same again.
            plain = self._adapter.dump_python(value, mode="python", **options)
            return to_jsonable_python(_marked(plain), inf_nan_mode="constants", by_alias=False)
        if not self._is_exact:
            row = _revealed(row, self._adapter.dump_python(value, mode="python", **options))
        elif _BYTES.encode() not in codec.encode(row):
            return row
        return _marked(row)

    def _validated(self, data: Any) -> T:
        if self._is_ambiguous:  # rows go by the names of fields; only where that fails may it be one that somebody wrote by aliases
            with suppress(ValidationError):
                return self._validated_by(data, by_alias=False)
        return self._validated_by(data, by_alias=True)

    def _validated_by(self, data: Any, *, by_alias: bool) -> T:
        try:
            encoded = codec.encode(data)
        except SerializationError:
            encoded = b""  # another library's store may give what JSON has no form for
        if encoded and _BYTES.encode() not in encoded:
            return self._adapter.validate_json(encoded, by_alias=by_alias, by_name=True)
        data, has_bytes = _unmarked(data)
        if encoded and not has_bytes:
            return self._adapter.validate_json(codec.encode(data), by_alias=by_alias, by_name=True)
        return self._adapter.validate_python(data, strict=False, by_alias=by_alias, by_name=True)

    def _comes_back(self, value: T, row: dict[str, Any]) -> bool:
        try:
            found = self._validated(row[_ITEMS] if self._wraps else row)
        except ValidationError:
            return False
        if self._is_exact and value == found:
            return True
        if not (isinstance(value, type(found)) or value == found) or not _has_shape(value, found):
            return False
        # By their contents: not every class has an equality.
        options: dict[str, Any] = {"mode": "python", "by_alias": False, "round_trip": True}
        return _is_same(self._adapter.dump_python(value, **options), self._adapter.dump_python(found, **options))


def of_any_type(kind: Any) -> PydanticConverter[Any]:
    """Return the converter of `PydanticAdapter`."""
    return PydanticConverter(kind)


def of_base_model(kind: Any) -> PydanticConverter[Any]:
    """Return the converter of `BaseModelAdapter`.

    Raises:
        TypeError: The type is neither a `BaseModel` nor a list of such.
    """
    is_list = get_origin(kind) is list
    model: Any = (get_args(kind) or (None,))[0] if is_list else kind
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"BaseModelAdapter takes a BaseModel subclass or a list of one, not {kind}; PydanticAdapter takes any type")
    if is_list:
        return PydanticConverter(kind, wraps=True)
    return PydanticConverter(kind, wraps=None if issubclass(model, RootModel) else False)


def of_dataclass(kind: Any) -> PydanticConverter[Any]:
    """Return the converter of `DataclassAdapter`.

    Raises:
        TypeError: The type is neither a dataclass nor a sequence of such.
    """
    origin = get_origin(kind)
    is_sequence = isinstance(origin, type) and issubclass(origin, Sequence)
    inner: Any = (get_args(kind) or (None,))[0] if is_sequence else kind
    inner = get_origin(inner) or inner
    if not (isinstance(inner, type) and is_dataclass(cast("object", inner))):
        raise TypeError(f"DataclassAdapter takes a dataclass or a sequence of one, not {kind}; PydanticAdapter takes any type")
    return PydanticConverter(kind, wraps=is_sequence)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(cast("object", kind)))


def _is_map(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_row(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_group(value: Any) -> TypeGuard[Collection[Any]]:
    return isinstance(value, list | tuple | set | frozenset)


def _is_secret(value: Any) -> bool:
    return isinstance(value, SecretStr | SecretBytes | Secret)


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield all parts of a core schema."""
    left, seen = [schema], set[int]()
    while left:
        part = left.pop()
        if _is_row(part):
            if id(part) not in seen:
                seen.add(id(part))
                yield part
                left += part.values()
        elif _is_sequence(part):
            left += part


def _is_exact(part: dict[str, Any]) -> bool:
    """Return whether what this part of a core schema takes comes back from JSON as it was if it validates, and if its own parts do."""
    kind, config = part.get("type"), cast("dict[str, Any]", part.get("config") or {})
    if not isinstance(kind, str):
        return True  # the names of fields, perhaps
    if kind == "dict":
        return part.get("keys_schema", {}).get("type") == "str"
    if kind in ("literal", "enum"):
        members = part["expected"] if kind == "literal" else [member.value for member in part["members"]]
        return all(type(member) in (str, int) for member in members)
    if part.get("serialization_exclude") or part.get("post_init") or part.get("init") is False or part.get("extra_behavior") == "allow":
        return False
    return kind in _EXACT and not any(name.startswith(("ser_json", "val_json")) or config[name] == "allow" for name in config)


def _fields(part: dict[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a model, dataclass or typed dict, by their names."""
    fields = part.get("fields") if part.get("type") in ("model-fields", "dataclass-args", "typed-dict") else None
    return fields if _is_row(fields) else {field["name"]: field for field in fields or ()}


def _aliases(field: dict[str, Any]) -> Sequence[Sequence[Any]]:
    """Return the paths that a field is also read from."""
    alias: Any = field.get("validation_alias")
    if not _is_sequence(alias):
        return [] if alias is None else [[alias]]
    return alias if all(map(_is_sequence, alias)) else [alias]


def _names(part: dict[str, Any]) -> Iterator[str]:
    """Yield what this part of a core schema calls things by: fields, their aliases, members of unions, types."""
    fields = _fields(part)
    found: list[Any] = [part.get("type"), getattr(part.get("cls"), "__name__", None), *fields]
    found += [step for field in fields.values() for path in _aliases(field) for step in path]
    found += [*part["choices"]] if part.get("type") == "tagged-union" else []
    yield from (name for name in found if isinstance(name, str))


def _is_ambiguous(part: dict[str, Any]) -> bool:
    """Return whether a field of this part of a core schema is also read from where another one is by its name."""
    fields = _fields(part)
    return any(path[0] != name and path[0] in fields for name, field in fields.items() for path in _aliases(field))


def _has_shape(value: Any, found: Any) -> bool:
    """Return whether mappings and sequences in two values have the same keys and lengths: a dump leaves out what a typed dict has not."""
    if _is_map(value) and _is_map(found):
        return value.keys() == found.keys() and all(_has_shape(one, found[key]) for key, one in value.items())
    if _is_sequence(value) and _is_sequence(found):
        return len(value) == len(found) and all(map(_has_shape, value, found))
    return True


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two dumps are equal; a time that a time zone has twice equals none of another zone, so those are compared as text."""
    if one == other:
        return True
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.isoformat() == other.isoformat()
    if _is_map(one) and _is_map(other):
        return one.keys() == other.keys() and all(_is_same(member, other[key]) for key, member in one.items())
    if _is_sequence(one) and _is_sequence(other):
        return type(one) is type(other) and len(one) == len(other) and all(map(_is_same, one, other))
    return False


def _revealed(row: Any, plain: Any) -> Any:
    """Return a row with the secrets in it; `plain` is the same value in Python's own types."""
    if _is_secret(plain):
        return _jsonable(plain.get_secret_value())
    # Both come from one value, so in one order; keys may look different.
    if _is_row(row) and _is_map(plain) and len(row) == len(plain):
        return {key: _revealed(one, other) for (key, one), other in zip(row.items(), plain.values(), strict=True)}
    if _is_sequence(row) and _is_group(plain) and len(row) == len(plain):
        return [_revealed(one, other) for one, other in zip(row, plain, strict=True)]
    return row


def _jsonable(secret: Any) -> Any:
    return secret if isinstance(secret, bytes) else to_jsonable_python(secret, inf_nan_mode="constants", by_alias=False)


def _marked(value: Any) -> Any:
    """Return a value in which bytes that are not UTF-8 can be told, and secrets are as they are."""
    if _is_secret(value):
        value = _jsonable(value.get_secret_value())
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {_BYTES: to_base64(bytes(value))}
    if _is_row(value):
        marked = {key: _marked(one) for key, one in value.items()}
        return {_BYTES: marked} if marked.keys() == {_BYTES} else marked
    if _is_group(value):
        return [_marked(one) for one in value]
    return value


def _unmarked(value: Any) -> tuple[Any, bool]:
    """Undo `_marked`, and say whether there were such bytes."""
    if _is_row(value):
        if value.keys() == {_BYTES}:
            inner = value[_BYTES]
            if isinstance(inner, str):
                try:
                    return from_base64(inner), True
                except ValueError:
                    return value, False
            if _is_row(inner):
                value = inner
        pairs = {key: _unmarked(one) for key, one in value.items()}
        return {key: one for key, (one, _) in pairs.items()}, any(has for _, has in pairs.values())
    if _is_sequence(value):
        items = [_unmarked(one) for one in value]
        return [one for one, _ in items], any(has for _, has in items)
    return value, False


def _without(data: Any, places: Sequence[Sequence[int | str]]) -> Any:
    """Return a copy of a row without the fields at some places. A place may also name members of unions on its way."""
    if not places or not (_is_row(data) or _is_sequence(data)):
        return data
    steps: Mapping[Any, Any] = data if _is_row(data) else dict(enumerate(data))
    paths = [path for place in places if (path := list(dropwhile(lambda step: step not in steps, place)))]
    gone = {path[0] for path in paths if len(path) == 1}
    left = {step: _without(one, [path[1:] for path in paths if path[0] == step]) for step, one in steps.items() if step not in gone}
    return left if _is_row(data) else list(left.values())


def _errors(problem: ValidationError, known: Collection[str]) -> str:
    """Return where a row is wrong, and how, without anything that it holds but known names: other keys are data."""
    errors = problem.errors(include_url=False, include_input=False, include_context=False)
    places = [[str(step) if isinstance(step, int) or step in known else "…" for step in error["loc"]] for error in errors[:_SHOWN]]
    shown = [f"{'.'.join(place) or 'it'}: {error['type']}" for place, error in zip(places, errors, strict=False)]
    return "; ".join(shown) + (f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else "")


def _what(error: Exception) -> str:
    # Messages quote the value; the codec's only says where in it what is.
    if isinstance(error, SerializationError):
        return error.message
    return "it is no value of that type" if isinstance(error, PydanticSerializationError) else type(error).__name__
