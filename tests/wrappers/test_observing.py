"""Wrappers that look on: logging and statistics."""

from __future__ import annotations

import json
import logging
import math
import re
from typing import Any

import pytest

from keyvalue.errors import InvalidKeyError, SerializationError
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.testing._samples import nested
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.logging import LoggingWrapper
from keyvalue.wrappers.statistics import (
    LATENCY_BOUNDS,
    DeleteStatistics,
    GetStatistics,
    KVStoreCollectionStatistics,
    PutStatistics,
    StatisticsWrapper,
    TTLStatistics,
)
from tests.scripted import DOWN, ScriptedStore

each_form = pytest.mark.parametrize("structured", [False, True])


class Unprintable(dict[str, Any]):
    formatted = 0

    def __repr__(self) -> str:
        self.formatted += 1
        raise AssertionError("it was formatted")

    def items(self) -> Any:
        self.formatted += 1
        return super().items()


@each_form
@pytest.mark.parametrize("values", [False, True])
async def test_logs_hold_no_values_unless_asked(structured: bool, values: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kv: Any = LoggingWrapper(MemoryStore(), log_values=values, structured_logs=structured)
    await kv.put("k", {"password": "hunter2"}, ttl=60)
    await kv.get("k")
    await kv.ttl_many(["k", "l"])
    await kv.keys()
    assert ("hunter2" in caplog.text) == values
    assert {record.name for record in caplog.records} == {"key_value.logging"}
    assert len(caplog.records) == 8
    if structured:
        records = [json.loads(record.getMessage()) for record in caplog.records]
        assert [record["status"] for record in records] == ["start", "finish"] * 4
        assert records[0]["action"] == "PUT"
        assert records[3]["extra"]["hit"] is True
        assert all("ms" in record["extra"] for record in records[1::2])


async def test_logs_name_collections_as_they_were_given(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kv: Any = LoggingWrapper(MemoryStore(default_collection="own"))
    await kv.get("k")
    await kv.get("k", collection="c")
    await kv.collections()
    started = ["GET collection=None keys='k'", "GET collection='c' keys='k'", "COLLECTIONS keys=[]"]
    assert [record.getMessage() for record in caplog.records[::2]] == [f"Start {call}" for call in started]
    kv = LoggingWrapper(MemoryStore(), structured_logs=True)
    await kv.destroy()
    assert "collection" not in json.loads(caplog.records[-1].getMessage())


async def test_failures_are_logged_by_type(caplog: pytest.LogCaptureFixture) -> None:
    kv = LoggingWrapper(ScriptedStore(MemoryStore(), [ConnectionError("secret host")]), log_level=logging.DEBUG)
    with pytest.raises(ConnectionError):
        await kv.get("k")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert re.search(r" ms=\d", record.getMessage())
    assert "ConnectionError" in record.getMessage()
    assert "secret" not in record.getMessage()


@each_form
async def test_nothing_is_formatted_for_a_level_that_is_off(structured: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    value, expected = Unprintable(a=1), Unprintable(a=1)
    await LoggingWrapper(NullStore(), log_values=True, structured_logs=structured).put("k", value)
    await NullStore().put("k", expected)
    assert value.formatted == expected.formatted
    assert caplog.records == []


@each_form
async def test_what_can_not_be_shown_changes_no_outcome(structured: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kv = LoggingWrapper(MemoryStore(), log_values=True, structured_logs=structured)
    circular: dict[str, Any] = {}
    circular["a"] = circular
    for bad in ({"x": {(1, 2): 3}}, circular, nested(50_000)):
        with pytest.raises(SerializationError):
            await kv.put("k", bad)
    await kv.put("k", Unprintable(a=1))
    assert await kv.get("k") == {"a": 1}
    assert len(caplog.records) == 10
    assert any("can't be shown" in record.getMessage() for record in caplog.records)


async def test_statistics() -> None:
    store = ScriptedStore(MemoryStore())
    kv = StatisticsWrapper(store)
    await kv.put("k", {})
    await kv.put_many(["l", "m"], [{}, {}], collection="c")
    await kv.get("k")
    await kv.get("x", collection="c")
    await kv.get_many(["l", "x", "y"], collection="c")
    await kv.ttl("x")
    await kv.ttl_many(["l", "m"], collection="c")
    await kv.delete("x")
    await kv.delete_many(["l", "x"], collection="c")
    store.plan(DOWN)
    with pytest.raises(type(DOWN)):
        await kv.get("k")
    default, c = (kv.statistics.get_collection(name) for name in ("default_collection", "c"))
    assert (default.put.count, c.put.count) == (1, 2)
    assert (default.get.count, default.get.hit, default.get.miss, default.get.errors) == (1, 1, 0, 1)
    assert (c.get.count, c.get.hit, c.get.miss) == (4, 1, 3)
    assert (default.ttl.miss, c.ttl.hit) == (1, 2)
    assert c.get == GetStatistics(count=4, hit=1, miss=3)
    assert c.get != GetStatistics(count=5, hit=1, miss=3)
    assert default == KVStoreCollectionStatistics(
        GetStatistics(1, 1, errors=1), TTLStatistics(1, miss=1), PutStatistics(1), DeleteStatistics(1, 0, 1)
    )
    assert (default.delete.miss, c.delete.hit, c.delete.miss) == (1, 1, 1)
    snapshot = kv.snapshot()
    assert list(snapshot) == ["c", "default_collection"]
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot["c"]["get"]["count"] == 4
    assert 0 < snapshot["c"]["get"]["p50"] <= 50
    await kv.put("k", {})
    assert snapshot["default_collection"]["put"]["count"] == 1, "a snapshot stays as it is"


async def test_statistics_check_names_where_nobody_else_does() -> None:
    class Lenient(BaseWrapper):
        async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
            return {}

    kv: Any = StatisticsWrapper(Lenient(MemoryStore()))
    for key, collection, error in (("", None, InvalidKeyError), ("k", "", InvalidKeyError), (5, None, TypeError)):
        with pytest.raises(error):
            await kv.get(key, collection=collection)
    assert kv.snapshot() == {}


def test_quantiles() -> None:
    figures = StatisticsWrapper(MemoryStore()).statistics.get_collection("c").get
    assert figures.quantile(0.5) is None
    figures.latencies[0], figures.latencies[3], figures.latencies[-1] = 90, 9, 1
    assert (figures.quantile(0.5), figures.quantile(0.95), figures.quantile(1)) == (LATENCY_BOUNDS[0], LATENCY_BOUNDS[3], math.inf)
