"""Seeded faults: one-line breaks of the library that the test suite must notice. `python -m tests.mutants` tries them.

They measure the suite, not the library. Run them before and after a change of the suite, to see that it has lost no teeth.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FAULTS", "Fault"]

# Where the tests are.
CODEC = "tests/core/test_codec.py"
ENTRY = "tests/core/test_entry.py"
RUNTIME = "tests/core/test_runtime.py"
BLOCKING = "tests/core/test_blocking.py"
CANCELLATION = "tests/core/test_cancellation.py"
CONTRACT = "tests/stores/test_contract.py"
BACKENDS = "tests/stores/test_backends.py"
BASE = "tests/wrappers/test_base.py"
CACHE = "tests/wrappers/test_cache.py"
CACHE_SCHEDULES = "tests/wrappers/test_cache_schedules.py"
COMPRESSION = "tests/wrappers/test_compression.py"
ENCRYPTION = "tests/wrappers/test_encryption.py"
FALLBACK = "tests/wrappers/test_fallback.py"
LIMITS = "tests/wrappers/test_limits.py"
NAMES = "tests/wrappers/test_names.py"
OBSERVING = "tests/wrappers/test_observing.py"
RETRY_TIMEOUT = "tests/wrappers/test_retry_timeout.py"
ADAPTERS = "tests/adapters/test_adapters.py"
SANITIZATION = "tests/legacy/test_sanitization.py"

_CORE, _STORES, _WRAPPERS = "src/keyvalue/_core", "src/keyvalue/stores", "src/keyvalue/wrappers"


class Fault(NamedTuple):
    """A break of one line.

    Attributes:
        name: What is broken, then how.
        file: The file that is broken.
        old: A text that occurs in it once.
        new: What takes its place.
        tests: What pytest is called with: the tests of the module that is broken.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _contract(words: str) -> tuple[str, ...]:
    """Return the contract on a backend, or a part of that: of the words, one is the backend's name, and none that of a runtime."""
    return (CONTRACT, "-k", words)


def _store(name: str, words: str = "") -> tuple[str, ...]:
    """Return a store's own tests, or those whose names have one of some words."""
    return (f"tests/stores/test_{name}.py", *(("-k", words) if words else ()))


def _server(name: str, words: str = "") -> tuple[str, ...]:
    """Return the tests of a store with a server: its own, and the themes that all of these share."""
    own = f"(test_{name} or {name} and not cluster and not replicaset)"
    return (f"tests/stores/test_{name}.py", BACKENDS, "-k", f"{own} and ({words})" if words else own)


_OF_THE_CORE = (
    Fault(
        "pending-writes-of-other-keys",
        f"{_CORE}/pending.py",
        "not set(other_keys).isdisjoint(keys)",
        "set(other_keys).isdisjoint(keys)",
        (CANCELLATION,),
    ),
    Fault(
        "store-listing-waits-for-no-write",
        f"{_CORE}/listing.py",
        "await self._pending.drain()",
        "pass",
        (CANCELLATION,),
    ),
    Fault(
        "store-write-waits-for-no-destroying",
        f"{_CORE}/pending.py",
        "if other_keys is None or (other ==",
        "if other_keys is not None and (other ==",
        (CANCELLATION,),
    ),
    Fault(
        "runtime-cancelled-call-not-told",
        f"{_CORE}/pending.py",
        "if self._task.done():",
        "if not self._task.done():",
        (RUNTIME, CANCELLATION),
    ),
    Fault(
        "store-sends-a-lost-put-again",
        f"{_CORE}/caller.py",
        "(repeatable or is_unsent)",
        "(repeatable or True)",
        _server("redis"),
    ),
    Fault(
        "flat-delete-counts-what-another-removed",
        f"{_CORE}/legacy/slots.py",
        "zip(own, made, strict=True) if was_made and row.is_live}",
        "zip(own, made, strict=True) if row.is_live}",
        _store("windows_registry"),
    ),
    Fault(
        "client-closes-a-given-one",
        f"{_CORE}/sync_client.py",
        "client, self.client = (None, self.client) if self.is_borrowed else (self.client, None)",
        "client, self.client = self.client, None",
        _server("redis"),
    ),
    Fault(
        "entry-reads-documents-of-newer-versions",
        f"{_CORE}/entry.py",
        'if get("version", 1) != 1:',
        'if get("version", 1) < 1:',
        (ENTRY,),
    ),
    Fault(
        "codec-integers-just-beyond-64-bits",
        f"{_CORE}/codec.py",
        '_LONG_NUMBER = b"0" * 19',
        '_LONG_NUMBER = b"0" * 20',
        (CODEC,),
    ),
    Fault(
        "arguments-ttl-of-zero",
        f"{_CORE}/arguments.py",
        "if not (isfinite(seconds) and seconds > 0 and",
        "if not (isfinite(seconds) and seconds >= 0 and",
        _contract("memory and ttl"),
    ),
    Fault(
        "pydantic-rows-by-aliases",
        "src/keyvalue/adapters/_pydantic.py",
        "dump_python, by_alias=False, round_trip=True",
        "dump_python, by_alias=True, round_trip=True",
        (ADAPTERS,),
    ),
    Fault(
        "pydantic-takes-an-equality-at-its-word",
        "src/keyvalue/adapters/_pydantic.py",
        "bool(value == found and self._to_python(value) == self._to_python(found))",
        "bool(value == found)",
        (ADAPTERS,),
    ),
    Fault(
        "operation-does-not-write-in-bulk",
        f"{_CORE}/operation.py",
        'in {"put", "put_many", "delete", "delete_many", "destroy", "destroy_collection"}',
        'in {"put", "delete", "destroy", "destroy_collection"}',
        (FALLBACK,),
    ),
    Fault(
        "transient-errors-are-only-our-own",
        f"{_CORE}/transient.py",
        "= (StoreConnectionError, ConnectionError, TimeoutError)",
        "= (StoreConnectionError, TimeoutError)",
        (RETRY_TIMEOUT,),
    ),
    Fault(
        "capabilities-forget-what-runs-inline",
        f"{_CORE}/capabilities.py",
        '("__doc__", "__module__", "__qualname__", "runs_inline") if',
        '("__doc__", "__module__", "__qualname__") if',
        (BLOCKING,),
    ),
    Fault(
        "wrapper-limit-counts-keys-of-others",
        f"{_CORE}/wrapper.py",
        "inner_limit = None if self._has_decode_key else limit",
        "inner_limit = limit",
        (BASE, NAMES),
    ),
    Fault(
        "envelope-base64-skips-what-is-none",
        f"{_CORE}/envelope.py",
        "base64.b64decode(text, validate=True)",
        "base64.b64decode(text)",
        (COMPRESSION,),
    ),
    Fault(
        "clock-of-the-machine",
        f"{_CORE}/clock.py",
        "from time import time as now",
        "from time import monotonic as now",
        _server("dynamodb", "time_to_live or expir"),
    ),
    Fault(
        "extras-name-no-command",
        f"{_CORE}/extras.py",
        "install it with: pip install {",
        "install it {",
        ("tests/core/test_imports.py",),
    ),
    Fault(
        "joined-unescapes-in-the-wrong-order",
        f"{_CORE}/joined.py",
        "for plain, escaped in reversed(self._escapes):",
        "for plain, escaped in self._escapes:",
        (NAMES,),
    ),
    Fault(
        "sanitization-hash-longer-than-allowed",
        f"{_CORE}/legacy/sanitization.py",
        '"H_" + _sha256(value)[: self.max_length - 2]',
        '"H_" + _sha256(value)[: self.max_length]',
        (SANITIZATION,),
    ),
    Fault(
        "typed-put-many-forgets-the-ttl",
        "src/keyvalue/adapters/_typed.py",
        "put_many(keys, rows, collection=self._choose_collection(collection), ttl=ttl)",
        "put_many(keys, rows, collection=self._choose_collection(collection))",
        (ADAPTERS,),
    ),
    Fault(
        "raise-on-missing-ignores-bulk-reads",
        "src/keyvalue/adapters/raise_on_missing.py",
        '_require_all("ttl_many", collection, keys, [value is not None for value, _ in pairs])',
        '_require_all("ttl_many", collection, keys, [True for value, _ in pairs])',
        (ADAPTERS,),
    ),
    Fault(
        "blocking-interrupt-leaves-the-call-running",
        "src/keyvalue/blocking.py",
        "                future.cancel()\n            cancelled.put(None)",
        "                pass\n            cancelled.put(None)",
        (BLOCKING,),
    ),
    Fault(
        "blocking-fork-is-called-closed",
        "src/keyvalue/blocking.py",
        "self._target = _Closed(_forked_error)",
        "self._target = _Closed(_closed_error)",
        (BLOCKING,),
    ),
    Fault(
        "runtime-the-loop-of-the-thread-decides",
        f"{_CORE}/runtime.py",
        "return (token, loop) if trio.in_trio_task() else (loop, token)",
        "return (token, loop)",
        ("tests/stores/test_guest.py", "-k", "redis and not cluster or valkey and not cluster"),
    ),
    Fault(
        "codec-large-value-is-encoded-as-it-becomes",
        f"{_CORE}/codec.py",
        "if len(dumped) > limit:\n        return partial(_encode_loaded, dumped, path)",
        "if len(dumped) > limit:\n        return partial(_encode_stable, value, path)",
        ("tests/core/test_store.py",),
    ),
    Fault(
        "codec-joins-from-the-wrong-end",
        f"{_CORE}/codec.py",
        "low + high * base for low, high in",
        "high + low * base for low, high in",
        (CODEC,),
    ),
    Fault(
        "entry-converts-long-integers-at-once",
        f"{_CORE}/entry.py",
        "fields: Any = codec.decode(document, long_integers)",
        "fields: Any = codec.decode(document)",
        (ENTRY,),
    ),
    Fault(
        "slots-are-lost-with-a-cancelled-call",
        f"{_CORE}/slots.py",
        "            if not turn.cancelled():  # it has got it already\n                self.release()\n",
        "",
        (RUNTIME, "tests/core/test_cancellation.py", "tests/stores/test_many_calls.py", "-k", "room or slot or cancelled"),
    ),
    Fault(
        "flat-listing-pages-by-count-alone",
        f"{_CORE}/listing.py",
        "if len(page) >= PAGE or size >= PAGE_SIZE:",
        "if len(page) >= PAGE:",
        ("tests/stores/test_listing.py", "-k", "filetree or disk"),
    ),
    Fault(
        "blocking-main-thread-holds-the-futures-lock",
        "src/keyvalue/blocking.py",
        "if threading.current_thread() is threading.main_thread():",
        "if False:",
        ("tests/stores/test_interrupts.py", "-k", "leaves_wrappers_usable and timeout"),
    ),
)

_OF_EMBEDDED_STORES = (
    Fault(
        "memory-read-refreshes-nothing",
        f"{_STORES}/memory.py",
        "entries.move_to_end(key)",
        "entries.get(key)",
        _store("memory"),
    ),
    Fault(
        "memory-expiry-by-an-overwritten-deadline",
        f"{_STORES}/memory.py",
        "if entry is not None and entry.expires_at == expires_at:",
        "if entry is not None:",
        _contract("memory and ttl"),
    ),
    Fault(
        "simple-delete-counts-expired",
        f"{_STORES}/simple.py",
        "[entry is not None and entry.is_live(now) for entry in removed]",
        "[entry is not None for entry in removed]",
        _contract("simple and expired"),
    ),
    Fault(
        "simple-write-evicts-the-newest",
        f"{_STORES}/simple.py",
        "del self._entries[next(iter(self._entries))]",
        "self._entries.popitem()",
        _store("simple"),
    ),
    Fault(
        "null-delete-says-it-was-there",
        f"{_STORES}/null.py",
        "return [False] * len(keys)",
        "return [True] * len(keys)",
        _store("null"),
    ),
    Fault(
        "disk-expiry-cut-short-by-sqlite",
        f"{_STORES}/_drivers/disk.py",
        "entry.expires_at - clock.now() + 0.001",
        "entry.expires_at - clock.now() - 0.001",
        _store("disk"),
    ),
    Fault(
        "diskcache-exchange-compares-nothing",
        f"{_STORES}/_drivers/disk_cache.py",
        "made.append(version == (stored and stored.version))",
        "made.append(True)",
        _contract("multi-disk and cull"),
    ),
    Fault(
        "diskcache-culls-within-a-bulk-put",
        f"{_STORES}/_drivers/disk_cache.py",
        "self._in_bulk = True",
        "self._in_bulk = False",
        _store("multi_disk", "eviction or bulk"),
    ),
    Fault(
        "multi-disk-read-makes-directories",
        f"{_STORES}/_drivers/disk.py",
        "cache = self._cache(directory, create=False)\n            if cache is not None:\n                found",
        "cache = self._cache(directory, create=True)\n            if cache is not None:\n                found",
        _store("multi_disk"),
    ),
    Fault(
        "filetree-exchange-overwrites-what-is-new",
        f"{_STORES}/_drivers/filetree_files.py",
        "except FileExistsError:\n            return False",
        "except FileExistsError:\n            return True",
        _store("filetree"),
    ),
    Fault(
        "filetree-read-follows-links",
        f"{_STORES}/_drivers/filetree.py",
        "            refuse_link(path)\n",
        "",
        _store("filetree"),
    ),
    Fault(
        "rocksdb-exchange-writes-what-has-changed",
        f"{_STORES}/_drivers/rocksdb.py",
        "entry.document()) for name, _, entry in chosen]",
        "entry.document()) for name, _, entry in changes]",
        _contract("rocksdb and cull"),
    ),
    Fault(
        "rocksdb-read-unpickles",
        f"{_STORES}/_drivers/rocksdb.py",
        "    try:\n            db = _without_pickle(Rdict(spelled, Options()))",
        "    try:\n            db = Rdict(spelled, Options())",
        _store("rocksdb"),
    ),
    Fault(
        "windows-registry-list-stops-when-it-changes",
        f"{_STORES}/_drivers/windows_registry.py",
        "if winreg.QueryInfoKey(key) == before:",
        "if winreg.QueryInfoKey(key) != before:",
        _store("windows_registry"),
    ),
)

_OF_SERVERS = (
    Fault(
        "resp-expiry-rounded-down",
        f"{_STORES}/_drivers/resp.py",
        "str(max(1, ceil((entry.expires_at - now) * 1000)))",
        "str(max(1, int((entry.expires_at - now) * 1000)))",
        _server("redis"),
    ),
    Fault(
        "redis-list-ends-at-an-empty-page",
        f"{_STORES}/redis.py",
        "                if int(cursor) == 0:\n                    break",
        "                if int(cursor) == 0 or not keys:\n                    break",
        _server("redis"),
    ),
    Fault(
        "valkey-errors-call-refusals-unreachable",
        f"{_STORES}/_drivers/resp_errors.py",
        '"WRONGPASS": (StoreRefusedError,',
        '"WRONGPASS": (StoreConnectionError,',
        _server("valkey"),
    ),
    Fault(
        "memcached-expiry-beyond-30-days",
        f"{_STORES}/_drivers/memcached_commands.py",
        "if seconds > _DAYS_30:",
        "if seconds > _LATEST:",
        _contract("memcached and ttl"),
    ),
    Fault(
        "memcached-delete-tells-the-wrong-ones",
        f"{_STORES}/memcached.py",
        "zip(batch, deleted, strict=True) if not was_there)",
        "zip(batch, deleted, strict=True) if was_there)",
        _contract("memcached"),
    ),
    Fault(
        "memcached-driver-keeps-a-lost-connection",
        f"{_STORES}/_drivers/memcached_async.py",
        "if connection is None or connection.is_lost:",
        "if connection is None:",
        _server("memcached"),
    ),
    Fault(
        "mongodb-driver-rounds-expiry-down",
        f"{_STORES}/_drivers/mongodb.py",
        'fields["expires_at"] = DatetimeMS(_to_milliseconds(entry.expires_at))',
        'fields["expires_at"] = DatetimeMS(floor(entry.expires_at * 1000))',
        _server("mongodb", "expir"),
    ),
    Fault(
        "mongodb-delete-counts-expired",
        f"{_STORES}/mongodb.py",
        'delete_many({**pairs, "$nor": expired})',
        "delete_many(pairs)",
        _contract("mongodb and not replicaset and expired"),
    ),
    Fault(
        "mongodb-write-of-many-makes-no-documents",
        f"{_STORES}/_legacy/mongodb.py",
        'models[index] = InsertOne({"_id": document_id, **fields})',
        "continue",
        _contract("mongodb and not replicaset"),
    ),
    Fault(
        "dynamodb-read-forgets-unprocessed-keys",
        f"{_STORES}/_drivers/dynamodb_client.py",
        'left = answer.get("UnprocessedKeys") or answer.get("UnprocessedItems")',
        'left = answer.get("UnprocessedItems")',
        _server("dynamodb", "processed"),
    ),
    Fault(
        "dynamodb-expiry-rounded-down",
        f"{_STORES}/_drivers/dynamodb.py",
        'item["ttl"] = {"N": str(ceil(entry.expires_at))}',
        'item["ttl"] = {"N": str(int(entry.expires_at))}',
        _server("dynamodb", "time_to_live or expir"),
    ),
    Fault(
        "elasticsearch-driver-reads-no-json",
        f"{_STORES}/_drivers/elasticsearch.py",
        'value = held["json"] if type(held.get("json")) is str else held.get("flattened")',
        'value = held.get("flattened")',
        _contract("elasticsearch and values_come_back"),
    ),
    Fault(
        "elasticsearch-exchange-compares-nothing",
        f"{_STORES}/_drivers/elasticsearch.py",
        'action |= {"if_seq_no": int(sequence_number), "if_primary_term": int(primary_term)}',
        "action |= {}",
        _contract("elasticsearch and cull"),
    ),
    Fault(
        "elasticsearch-list-without-refresh",
        f"{_STORES}/_drivers/elasticsearch_requests.py",
        '        await send(Request("POST", f"/{path}/_refresh", None, _ALL, _check_whole))\n',
        "",
        _contract("elasticsearch and listing"),
    ),
    Fault(
        "keyring-delete-in-the-wrong-order",
        f"{_STORES}/_drivers/keyring.py",
        "for backend in reversed(self._backends):",
        "for backend in self._backends:",
        _server("keyring"),
    ),
    Fault(
        "keyring-errors-call-a-locked-one-refused",
        f"{_STORES}/keyring.py",
        "(KeyringLocked, StoreConnectionError, LOCKED)",
        "(KeyringLocked, StoreRefusedError, LOCKED)",
        _server("keyring"),
    ),
    Fault(
        "vault-delete-keeps-versions",
        f"{_STORES}/_drivers/vault_client.py",
        'self._send("delete", self._path("metadata", name))',
        'self._send("delete", self._path("data", name))',
        _server("vault", "version"),
    ),
    Fault(
        "vault-errors-call-a-quota-refused",
        f"{_STORES}/vault.py",
        "(hvac.exceptions.RateLimitExceeded, StoreConnectionError,",
        "(hvac.exceptions.RateLimitExceeded, StoreRefusedError,",
        _server("vault", "quota"),
    ),
    Fault(
        "redis-keeps-a-demoted-primary",
        f"{_STORES}/_resp.py",
        'if self._error_code(cause) == "READONLY":',
        'if self._error_code(cause) == "":',
        ("tests/stores/test_resp.py", "-k", "demoted"),
    ),
    Fault(
        "elasticsearch-takes-a-part-for-the-whole",
        f"{_STORES}/_drivers/elasticsearch_requests.py",
        'if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):',
        'if answer.get("timed_out"):',
        _server("elasticsearch", "in_part"),
    ),
    Fault(
        "vault-takes-any-mount-point",
        f"{_STORES}/_drivers/vault_client.py",
        "if _ROUTED in told and not _METADATA.search(told):",
        'if _ROUTED in told and "metadata" not in told:',
        _server("vault", "mount_point"),
    ),
    Fault(
        "mongodb-values-need-not-come-back-the-same",
        f"{_STORES}/_drivers/mongodb.py",
        "if orjson.dumps(back, option=_JSON) == text and",
        "if back is not None and",
        _server("mongodb", "native"),
    ),
    Fault(
        "mongodb-a-put-that-another-was-quicker-than-fails",
        f"{_STORES}/_legacy/mongodb.py",
        "if not left or not is_duplicate(error.__cause__):",
        "if True:",
        _server("mongodb", "document"),
    ),
    Fault(
        "mongodb-a-put-leaves-several-documents",
        f"{_STORES}/_legacy/mongodb.py",
        "if result.matched_count > 1:",
        "if False:",
        _server("mongodb", "document"),
    ),
    Fault(
        "mongodb-a-put-of-many-trusts-what-it-found",
        f"{_STORES}/_legacy/mongodb.py",
        "if matched < sum(map(len, moved.values())):",
        "if False:",
        _server("mongodb", "come_and_go"),
    ),
    Fault(
        "mongodb-needs-rights-to-make-indexes",
        f"{_STORES}/_drivers/mongodb_client.py",
        "if not is_unauthorized(error.__cause__):",
        "if True:",
        _server("mongodb", "rights"),
    ),
)

_OF_WRAPPERS = (
    Fault(
        "encryption-binds-no-key",
        f"{_WRAPPERS}/_ciphers.py",
        'for part in ("keyvalue/2", key_id, collection, key)]',
        'for part in ("keyvalue/2", key_id, collection)]',
        (ENCRYPTION,),
    ),
    Fault(
        "compression-trusts-what-looks-compressed",
        f"{_WRAPPERS}/compression.py",
        "if len(json) < self.min_size_to_compress and not looks_compressed:",
        "if len(json) < self.min_size_to_compress:",
        (COMPRESSION,),
    ),
    Fault(
        "default-value-forgets-its-ttl",
        f"{_WRAPPERS}/default_value.py",
        "(codec.decode(self._default), self._default_ttl) if value is None",
        "(codec.decode(self._default), left) if value is None",
        (LIMITS,),
    ),
    Fault(
        "fallback-keeps-obsolete-entries",
        f"{_WRAPPERS}/fallback.py",
        "if not obsolete and not is_whole:",
        "if not is_whole:",
        (FALLBACK,),
    ),
    Fault(
        "limit-size-refuses-the-limit-itself",
        f"{_WRAPPERS}/limit_size.py",
        "elif self.max_size is not None and size > self.max_size:",
        "elif self.max_size is not None and size >= self.max_size:",
        (LIMITS,),
    ),
    Fault(
        "logging-shows-values-unasked",
        f"{_WRAPPERS}/logging.py",
        "if self.log_values and value is not None",
        "if value is not None",
        (OBSERVING,),
    ),
    Fault(
        "passthrough-cache-outlives-the-entry",
        f"{_WRAPPERS}/passthrough_cache.py",
        "None if left is None else asked + left",
        "None if left is None else clock.now() + left",
        (CACHE,),
    ),
    Fault(
        "passthrough-cache-believes-rows-from-before-a-write",
        f"{_WRAPPERS}/passthrough_cache.py",
        "or end <= now or not (at > self._reads.last_write or self._reads.is_current((collection, key), at)):",
        "or end <= now:",
        (CACHE,),
    ),
    Fault(
        "passthrough-cache-shares-a-read-from-before-a-write",
        f"{_CORE}/single_flight.py",
        "if other and self.is_current(ref, other.began) and other.join():",
        "if other and other.join():",
        (CACHE_SCHEDULES,),
    ),
    Fault(
        "passthrough-cache-notes-no-write-that-failed",
        f"{_WRAPPERS}/passthrough_cache.py",
        "            self._reads.stamp(places)  # it may",
        "            pass  # it may",
        (CACHE,),
    ),
    Fault(
        "passthrough-cache-leaves-a-late-row-to-other-processes",
        f"{_WRAPPERS}/passthrough_cache.py",
        "for ref in rows if not self._reads.is_current(ref, at)]:",
        "for ref in rows if False]:",
        (CACHE,),
    ),
    Fault(
        "prefix-collections-ignores-its-default",
        f"{_WRAPPERS}/prefix_collections.py",
        "self.default_collection if collection is None else collection)",
        "DEFAULT_COLLECTION if collection is None else collection)",
        (NAMES,),
    ),
    Fault(
        "prefix-keys-lists-keys-of-others",
        f"{_WRAPPERS}/prefix_keys.py",
        "return self._names.second(self.prefix, key)",
        "return key.removeprefix(self._names.start(self.prefix))",
        (NAMES,),
    ),
    Fault(
        "read-only-offers-to-cull",
        f"{_WRAPPERS}/read_only.py",
        'return super()._capabilities() & {"keys", "collections"}',
        'return super()._capabilities() - {"destroy", "destroy_collection"}',
        (LIMITS,),
    ),
    Fault(
        "retry-tries-once-less",
        f"{_WRAPPERS}/retry.py",
        "for attempt in range(self.max_retries):",
        "for attempt in range(self.max_retries - 1):",
        (RETRY_TIMEOUT,),
    ),
    Fault(
        "routing-takes-any-limit",
        f"{_WRAPPERS}/routing.py",
        "limit = arguments.check_limit(limit)",
        "limit = limit or None",
        _contract("routing and limits"),
    ),
    Fault(
        "routing-lists-what-is-routed-elsewhere",
        f"{_WRAPPERS}/routing.py",
        "found += [name for name in listed if self._choose_store(name) is store]",
        "found += listed",
        (NAMES,),
    ),
    Fault(
        "single-collection-destroys-what-is-others",
        f"{_WRAPPERS}/single_collection.py",
        "own = [key for key in await self._list_names() if self._names.split(key) is not None]",
        "own = await self._list_names()",
        (NAMES,),
    ),
    Fault(
        "statistics-counts-one-key-too-many",
        f"{_WRAPPERS}/statistics.py",
        "figures.further += count - 1",
        "figures.further += count",
        (OBSERVING,),
    ),
    Fault(
        "timeout-raises-another-class",
        f"{_WRAPPERS}/timeout.py",
        'raise TimeoutError(f"',
        'raise RuntimeError(f"',
        (RETRY_TIMEOUT,),
    ),
    Fault(
        "ttl-clamp-leaves-the-missing-ttl",
        f"{_WRAPPERS}/ttl_clamp.py",
        'self._clamp(constructor.check_ttl(missing_ttl, "missing_ttl"))',
        'constructor.check_ttl(missing_ttl, "missing_ttl")',
        (LIMITS,),
    ),
)

FAULTS: tuple[Fault, ...] = (*_OF_THE_CORE, *_OF_EMBEDDED_STORES, *_OF_SERVERS, *_OF_WRAPPERS)
