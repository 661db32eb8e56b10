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
from functools import reduce
from itertools import dropwhile
from math import isfinite
from typing import Any, Generic, TypeGuard, TypeVar, cast, get_args, get_origin

from keyvalue._core import arguments, codec
from keyvalue._core.envelope import from_base64, to_base64
from keyvalue._core.extras import needs
from keyvalue._core.typed import InvalidRowError
from keyvalue.errors import SerializationError

with needs("pydantic"):
    from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import PydanticOmit, PydanticSerializationError, to_jsonable_python

__all__ = ["PydanticConverter", "of_any_type", "of_base_model", "of_dataclass"]

T = TypeVar("T")

_ITEMS, _BYTES = "items", "__keyvalue_bytes__"
_SHOWN = 3  # errors of validation that a message names
_NOTHING: Any = object()
_OF_TYPES = frozenset({"typing", "typing_extensions", "types", "annotationlib"})  # modules whose objects stand for types
_CANT_DUMP = (PydanticSerializationError, ValueError, TypeError, AttributeError, RecursionError)
_ADVICE = "declare its type, of several a discriminated union, or pass exact=False to the adapter to store it all the same"
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
        exact: Whether a value that would not come back equal is refused. If False, one is that could not be read at all.
    """

    def __init__(self, kind: Any, wraps: bool | None = None, *, exact: bool = True) -> None:
        if not _is_type(kind):
            raise TypeError(f"An adapter takes a type, such as User or list[User], not {arguments.article(kind)}")
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
        self._exact = exact
        self._options: dict[str, Any] = {"by_alias": False, "round_trip": True, "warnings": "error" if exact else False}

    def dump(self, value: T) -> dict[str, Any]:
        """Return the row of a value.

        Raises:
            SerializationError: It is no value of the type, or would not come back equal. The message says where.
        """
        row: Any = _NOTHING
        try:
            row = self._dumped(value)
        except SerializationError:
            raise  # it says where
        except _CANT_DUMP:
            pass  # these quote the value, so the refusal is not chained to them
        if row is _NOTHING:
            raise self._refusal(value, self._obstacle(value))
        if not (self._wraps or _is_row(row)):
            raise self._refusal(value, f"it becomes {arguments.article(row)}, though its schema is that of an object")
        loss = self._loss(value, row)
        if loss:
            codec.encode(row)  # it says more of what JSON has no form for, such as NaN
            raise self._refusal(value, loss)
        return {_ITEMS: row} if self._wraps else row

    def load(self, row: dict[str, Any]) -> T:
        """Return the value of a row.

        Raises:
            InvalidRowError: The row is no value of the type.
        """
        data: Any = row
        if self._wraps:
            if _ITEMS not in row:
                raise InvalidRowError(self._name, f"it has no field `{_ITEMS}`", [{"type": "missing", "loc": (_ITEMS,)}])
            data = row[_ITEMS]
        try:
            return self._validated(data)
        except ValidationError as error:
            errors = _errors(error)
        except RecursionError:
            errors = []
        # Rows of the predecessor hold computed fields, which a model may forbid as extra ones.
        computed = [one["loc"] for one in errors if one["type"] == "extra_forbidden" and one["loc"] and one["loc"][-1] in self._computed]
        if computed:
            try:
                return self._validated(_without(data, computed))
            except ValidationError as error:
                errors = _errors(error)
        for error in errors:  # keys that are no known names are data
            error["loc"] = tuple(step if isinstance(step, int) or step in self._known else "…" for step in error["loc"])
        raise InvalidRowError(self._name, _shown(errors) if errors else "it is nested too deep", errors)

    def _refusal(self, value: object, why: str) -> SerializationError:
        if self._class is not None and not isinstance(value, self._class):
            why = f"it is {arguments.article(value)}; give {arguments.with_article(self._name)}"
        return SerializationError(f"Could not serialize the value as {self._name}: {why}")

    def _dumped(self, value: T) -> Any:
        try:
            row = self._adapter.dump_python(value, mode="json", **self._options)
        except (PydanticSerializationError, UnicodeDecodeError):
            row = _NOTHING
        if row is _NOTHING:
            # Either it holds bytes that are not UTF-8, or this raises the same again.
            plain = self._adapter.dump_python(value, mode="python", **self._options)
            return to_jsonable_python(_marked(plain), inf_nan_mode="constants", by_alias=False)
        if not self._is_exact:
            row = _revealed(row, self._adapter.dump_python(value, mode="python", **self._options), self._exact)
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

    def _loss(self, value: T, row: Any) -> str | None:
        """Return what would be lost of a value that is stored as a row, and where, or None."""
        errors: list[Any] = []
        found: Any = None
        try:
            found = self._validated(row)
        except ValidationError as error:
            errors = _errors(error)
        if errors:
            place, _ = _located(errors[0], row, value)
            return (
                f"{codec.told(place)} is not valid when it is read back ({errors[0]['type']}); give a valid one, let validators take what "
                "serializers write, and exclude no field that must be there"
            )
        if not self._exact or (self._is_exact and value == found):
            return None
        if not (isinstance(value, type(found)) or value == found or _is_object(value) or (_is_url(value) and _is_url(found))):
            return _becomes("value", value, found)
        # By their contents: not every class has an equality.
        plain, plain_found = (self._adapter.dump_python(one, mode="python", by_alias=False, round_trip=True) for one in (value, found))
        return _difference("value", value, found, plain, plain_found)

    def _obstacle(self, value: T) -> str:
        """Return why a value can't be dumped, and where it is."""
        obstacle = _undumpable("value", value)
        if obstacle:
            return obstacle
        for strict in (False, True):
            plain: Any = None
            errors: list[Any] = []
            try:
                plain = self._adapter.dump_python(value, mode="json", by_alias=False, round_trip=True, warnings=False)
                self._adapter.validate_json(codec.encode(plain), strict=strict, by_alias=False, by_name=True)
            except ValidationError as error:
                errors = _errors(error)
            except (SerializationError, *_CANT_DUMP):
                break
            if errors:
                place, found = _located(errors[0], plain, value)
                return f"{codec.told(place)} is {arguments.article(found)}, which its type does not take ({errors[0]['type']})"
        return "it holds something that its type does not take"


def _is_type(kind: object) -> bool:
    return kind is None or isinstance(kind, type) or get_origin(kind) is not None or type(kind).__module__ in _OF_TYPES


def of_any_type(kind: Any, exact: bool) -> PydanticConverter[Any]:
    """Return the converter of `PydanticAdapter`."""
    return PydanticConverter(kind, exact=exact)


def of_base_model(kind: Any, exact: bool) -> PydanticConverter[Any]:
    """Return the converter of `BaseModelAdapter`.

    Raises:
        TypeError: The type is neither a `BaseModel` nor a list of such.
    """
    is_list = get_origin(kind) is list
    model: Any = (get_args(kind) or (None,))[0] if is_list else kind
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"BaseModelAdapter takes a BaseModel subclass or a list of one, not {kind}; PydanticAdapter takes any type")
    if is_list:
        return PydanticConverter(kind, wraps=True, exact=exact)
    return PydanticConverter(kind, wraps=None if issubclass(model, RootModel) else False, exact=exact)


def of_dataclass(kind: Any, exact: bool) -> PydanticConverter[Any]:
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
    return PydanticConverter(kind, wraps=is_sequence, exact=exact)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(cast("object", kind)))


def _is_object(value: Any) -> bool:
    return _is_model(type(value))


def _is_root(value: Any) -> TypeGuard[RootModel[Any]]:
    return isinstance(value, RootModel)


def _is_map(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_row(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_group(value: Any) -> TypeGuard[Collection[Any]]:
    return isinstance(value, list | tuple | set | frozenset)


def _is_url(value: Any) -> bool:
    return hasattr(value, "unicode_string")  # pydantic's URLs have no public base


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


def _difference(place: codec.Place, value: Any, found: Any, plain: Any, plain_found: Any) -> str | None:
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
    if _is_object(value) and found is not _NOTHING:
        if not _is_object(found):
            return None  # where the type says Any, a model comes back as its JSON
        if not isinstance(value, type(found)):
            return _becomes(place, value, found)
    for one, other in ((value, found), (plain, plain_found)):  # a dump leaves out what a typed dict has not
        loss = _key_difference(place, one, other) if _is_map(one) and _is_map(other) else None
        if loss:
            return loss
    if _is_map(plain) and _is_map(plain_found):
        others = {_comparable(key): other for key, other in plain_found.items()}
        for position, (key, one) in enumerate(plain.items()):
            inner: codec.Place = (place, key, position)
            loss = _difference(inner, _member(value, key), _member(found, key), one, others[_comparable(key)])
            if loss:
                return loss
        return None
    if _is_sequence(plain) and _is_sequence(plain_found) and type(plain) is type(plain_found):
        if len(plain) != len(plain_found) or (_is_sequence(value) and len(value) != len(plain)):
            return _lost(place, "would come back with another length")
        pairs = enumerate(zip(plain, plain_found, strict=True))
        losses = (
            _difference((place, index, index), _member(value, index), _member(found, index), one, other) for index, (one, other) in pairs
        )
        return next((loss for loss in losses if loss), None)
    if _comparable(plain) == _comparable(plain_found):
        return None
    # A time that a time zone has twice equals none of another zone.
    is_same_time = isinstance(plain, datetime) and isinstance(plain_found, datetime) and plain.isoformat() == plain_found.isoformat()
    return None if is_same_time else _becomes(place, plain, plain_found)


def _key_difference(place: codec.Place, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> str | None:
    keys = {_comparable(key) for key in other}
    for position, key in enumerate(one):
        if _comparable(key) not in keys:
            return _lost((place, key, position), "would not come back")
    return None if len(one) == len(other) else _lost(place, "would come back with other keys")


def _becomes(place: codec.Place, value: Any, found: Any) -> str:
    if isinstance(value, float) and not isfinite(value):
        return _lost(place, "is not a finite number", "store None or a string")
    if type(value) is type(found):
        return _lost(place, f"would come back as another {type(value).__name__}")
    return _lost(place, f"is {arguments.article(value)} and would come back as {arguments.article(found)}")


def _lost(place: codec.Place, what: str, advice: str = _ADVICE) -> str:
    return f"{codec.told(place)} {what}; {advice}"


def _comparable(plain: Any) -> Any:
    """Return something equal for what is the same, though Python calls it unequal."""
    if _is_url(plain):  # equal only within one class, of which the type may name another
        return "URL", plain.unicode_string()
    return frozenset(map(_comparable, cast("Collection[Any]", plain))) if isinstance(plain, set | frozenset) else plain


def _member(container: Any, key: Any) -> Any:
    """Return a member of a value, if it can be had by its dump's key."""
    if _is_object(container):
        return getattr(container, str(key), _NOTHING)
    if _is_map(container):
        return container.get(key, _NOTHING)
    return container[key] if _is_sequence(container) and isinstance(key, int) and key < len(container) else _NOTHING


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a value is made of, each member with its key or position."""
    if _is_root(value):
        yield from _members(value.root)
    elif isinstance(value, BaseModel):
        yield from value.__dict__.items()
        yield from (value.__pydantic_extra__ or {}).items()
    elif _is_object(value):
        yield from ((field.name, getattr(value, field.name, None)) for field in fields(value))
    elif _is_map(value):
        yield from value.items()
    elif _is_group(value):
        yield from enumerate(value)


def _undumpable(place: codec.Place, value: Any, above: tuple[int, ...] = ()) -> str | None:
    """Return what pydantic can't serialize of a value, and where, or None."""
    if id(value) in above:
        return f"{codec.told(place)} is one of the containers that it is in; circular references can't be stored"
    if len(above) == codec.MAX_DEPTH:
        return f"{codec.told(place)} is nested more than {codec.MAX_DEPTH} levels deep"
    if _is_dumpable(value):
        return None
    for position, (key, member) in enumerate(_members(value)):
        inner: codec.Place = (place, key, position)
        found = _undumpable(inner, member, (*above, id(value)))
        if not found and _is_object(value) and not _is_dumpable(value, {key}):  # its field has a serializer of its own
            found = f"{codec.told(inner)} is {arguments.article(member)}, which the serializer of this field does not take"
        if found:
            return found
    if _is_map(value):
        for position, key in enumerate(value):
            if not _is_dumpable({key: None}):
                return f"{codec.told(place)} has a key that is {arguments.article(key)} (key #{position + 1}); JSON takes only strings"
    if _is_map(value) or _is_group(value):
        return f"{codec.told(place)} is nested too deep to be serialized"
    return f"{codec.told(place)} is {arguments.article(value)}, which can't be serialized; {arguments.advice(value)}"


def _is_dumpable(value: Any, only: set[Any] | None = None) -> bool:
    try:
        to_jsonable_python(value, include=only, by_alias=False, round_trip=True, bytes_mode="base64")
    except _CANT_DUMP:
        return False
    return True


def _revealed(row: Any, plain: Any, compares: bool) -> Any:
    """Return a row with the secrets in it; `plain` is the same value in Python's own types.

    So that it is refused, a number that is not finite is in it too, unless what comes back is compared with the value, which says more.
    """
    if _is_secret(plain):
        return _jsonable(plain.get_secret_value())
    if row is None and isinstance(plain, float) and not compares:  # where the type says Any, pydantic writes null
        return plain
    # Both come from one value, so in one order; keys may look different.
    if _is_row(row) and _is_map(plain) and len(row) == len(plain):
        return {key: _revealed(one, other, compares) for (key, one), other in zip(row.items(), plain.values(), strict=True)}
    if _is_sequence(row) and _is_group(plain) and len(row) == len(plain):
        return [_revealed(one, other, compares) for one, other in zip(row, plain, strict=True)]
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


def _errors(problem: ValidationError) -> list[Any]:
    """Return what is wrong and where, without what is there."""
    errors = problem.errors(include_url=False, include_input=False, include_context=False)
    return [{"type": error["type"], "loc": error["loc"]} for error in errors]


def _shown(errors: Sequence[Any]) -> str:
    shown = [f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['type']}" for error in errors[:_SHOWN]]
    return "; ".join(shown) + (f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else "")


def _located(error: Any, row: Any, value: Any) -> tuple[codec.Place, Any]:
    """Return where in a row an error is, and what is there: in the value, if that can be told, else in the row."""
    steps: list[tuple[int | str, int]] = []
    for step in error["loc"]:  # which may also name a member of a union, or a field that is missing
        if (_is_row(row) and step in row) or (_is_sequence(row) and isinstance(step, int) and step < len(row)):
            steps.append((step, list[Any](row).index(step) if _is_row(row) else 0))
            row, value = _member(row, step), _member(value, step)
        elif error["type"] == "missing":
            steps.append((step, 0))
    return reduce(_within, steps, "value"), row if value is _NOTHING else value


def _within(place: codec.Place, step: tuple[int | str, int]) -> codec.Place:
    key, position = step
    return place, key, key if isinstance(key, int) else position
