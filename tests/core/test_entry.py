"""Entries and the JSON documents that hold them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyvalue._core import codec
from keyvalue._core.entry import Entry
from keyvalue.errors import DeserializationError


def test_the_document() -> None:
    entry = Entry("c", "k", json=codec.encode({"b": 1, "a": 2}), created_at=0.5, expires_at=86400.0)
    assert json.loads(entry.document()) == {
        "version": 1,
        "collection": "c",
        "key": "k",
        "created_at": "1970-01-01T00:00:00.500000+00:00",
        "expires_at": "1970-01-02T00:00:00+00:00",
        "value": {"b": 1, "a": 2},
    }
    read = Entry.from_document(entry.document(), "c", "k")
    assert (read.collection, read.key, read.created_at, read.expires_at) == ("c", "k", None, 86400.0)
    assert list(read.value()) == ["b", "a"]


@pytest.mark.parametrize(
    ("document", "expires_at"),
    [
        ('{"value": {}}', None),
        ('{"value": "{\\"a\\": 1}"}', None),
        ('{"value": {}, "expires_at": null, "created_at": ""}', None),
        ('{"value": {}, "expires_at": ""}', None),
        ('{"value": {}, "expires_at": "9999-12-31T23:59:59.999999+00:00"}', 253402300799.999999),
        ('{"value": {}, "expires_at": "1970-01-02T00:00:00Z"}', 86400.0),
        ('{"value": {}, "expires_at": "1970-01-02T00:00:00"}', 86400.0),
        ('{"value": {}, "expires_at": "1970-01-02T02:00:00+02:00"}', 86400.0),
        ('{"value": {}, "version": 1, "created_at": 1, "unknown": [1]}', None),
    ],
)
def test_documents_that_can_be_read(document: str, expires_at: float | None) -> None:
    entry = Entry.from_document(document.encode(), "c", "k")
    assert (entry.collection, entry.key, entry.expires_at) == ("c", "k", expires_at)


@pytest.mark.parametrize(
    "document",
    [
        b"no json hunter2",
        b"[]",
        b"{}",
        b'{"value": []}',
        b'{"value": "[]"}',
        b'{"value": "hunter2"}',
        b'{"value": {}, "version": 2}',
        b'{"value": {}, "expires_at": "hunter2"}',
        b'{"value": {}, "expires_at": 0}',
        b'{"value": {}, "collection": 5, "key": "k"}',
        b'{"value": {}, "collection": "c", "key": []}',
        b'{"value": {"a": "\xff"}}',
        b'{"value": {}, "expires_at": "9999-99-99T00:00:00+00:00"}',
    ],
)
def test_documents_that_can_not_be_read(document: bytes) -> None:
    with pytest.raises(DeserializationError, match=r"collection: c;key: k") as caught:
        Entry.from_document(document, "c", "k")
    assert "hunter2" not in str(caught.value)


DIGITS = b"3" * 10_000


@pytest.mark.parametrize(
    "document",
    [
        DIGITS,
        b'{"value": %b}' % DIGITS,
        b'{"value": {}, "version": %b}' % DIGITS,
        b'{"value": {}, "key": -%b}' % DIGITS,
        b'{"value": {"n": -%b}, "collection": "c"}' % DIGITS,
        b'{"value": "{\\"n\\": -%b}", "key": "k"}' % DIGITS,
    ],
)
def test_long_integers_are_read_only_when_the_value_is_asked_for(document: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than the rest; what lists, compares or refuses a document needs none of them."""
    parse, read = codec._parse_int, list[str]()  # pyright: ignore[reportPrivateUsage]

    def note(long_integers: list[str] | None, digits: str) -> int:
        if long_integers is None:
            read.append(digits)
        return parse(long_integers, digits)

    monkeypatch.setattr(codec, "_parse_int", note)
    try:
        entry = Entry.from_document(document, "c", "k")
    except DeserializationError:
        assert b'"n"' not in document
    else:
        assert (entry.collection, entry.key, read) == ("c", "k", [])
        assert entry.value() == entry.value() == {"n": -(10**10_000 // 3)}
        assert entry.document() == document
    assert len(read) == 2 * document.count(b'"n')


def test_an_entry_from_its_parts() -> None:
    long = "9" * 5000
    text = b'{"b":%s,"a":-0.0}' % long.encode()
    entry = Entry.from_json(text, "c", "k", created_at=1.0, expires_at=2.0)
    assert (entry.collection, entry.key, entry.created_at, entry.expires_at, entry.json) == ("c", "k", 1.0, 2.0, text)
    value = entry.value()
    assert list(value) == ["b", "a"]
    assert value["b"] == 10**5000 - 1
    assert codec.encode(value) == text


@pytest.mark.parametrize("date", ["soon", b"x", float("nan")])
@pytest.mark.parametrize("name", ["created_at", "expires_at"])
def test_a_date_that_is_no_number(name: str, date: Any) -> None:
    with pytest.raises(DeserializationError, match="one of its dates is not a number"):
        Entry.from_json(b"{}", "c", "k", **{name: date})


@pytest.mark.parametrize("text", [b"", b"secret", b"[]", b'"{}"', b"null", b"\xff", b"{}x"])
def test_text_that_is_no_object(text: bytes) -> None:
    with pytest.raises(DeserializationError, match=r"its value is not a JSON object.*overwrite the key") as raised:
        Entry.from_json(text, "c", "k")
    assert "secret" not in str(raised.value)
    assert raised.value.__context__ is None
