"""A store in a table of Amazon DynamoDB, over aiobotocore and botocore."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, ClassVar

from keyvalue._core import constructor, runtime
from keyvalue._core.clients import Clients
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.flat import map_outcomes
from keyvalue._core.layout import KeyLayout
from keyvalue._core.listing import EnumerableFlatStore
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueError, StoreRefusedError
from keyvalue.stores._drivers import dynamodb as driver
from keyvalue.stores._drivers import dynamodb_client as clients
from keyvalue.stores._drivers import dynamodb_errors as driver_errors
from keyvalue.stores._drivers.batches import split_chunks
from keyvalue.stores._drivers.http import peer_of
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls

with needs("dynamodb"):
    from aiobotocore.client import AioBaseClient
    from botocore import exceptions
    from botocore.client import BaseClient

__all__ = ["DynamoDBStore"]

_READ_AT_ONCE = 100  # items of one BatchGetItem
_REQUESTS_AT_ONCE = 10

_TLS = TlsOptions(
    "write https:// in endpoint_url",
    "write http:// in endpoint_url",
    "name the file with its certificate by the variable AWS_CA_BUNDLE",
)


class DynamoDBStore(EnumerableFlatStore):
    """Keeps entries in a DynamoDB table, which other programs may use too.

    Format: an item has `collection` (string, the partition key), `key` (string, the sort key), `value` (string, the JSON document of
    `keyvalue._core.entry`), `token` (string, random, new with each write) and, if the entry expires, `ttl` (number, the expiry in epoch
    seconds, rounded up), the table's TTL attribute. A collection of more than 2048 bytes, a key of more than 1024, or a name of the form
    `~<SHA-256 in hexadecimal>` is stored in that form. The document has the original names.

    First use creates a missing table, with on-demand billing, and enables TTL on it if the credentials allow that. Listing a collection is
    a query; listing the collections, culling and destroying scan the table. They skip items that this library did not write, and never
    delete the table. On asyncio the store awaits an aiobotocore client, one for each event loop. On trio it calls a botocore client in
    worker threads, in synchronous code directly.

    Args:
        client: A client of botocore, boto3 or aiobotocore. It is never closed. A synchronous client works on every runtime, an asynchronous
            one (entered by you) only on the event loop that first uses it.
        table_name: The name of the table.
        region_name: The region, without a client. Default: as configured for AWS.
        endpoint_url: An endpoint other than the region's, such as DynamoDB Local.
        aws_access_key_id: The access key. Default: as configured for AWS.
        aws_secret_access_key: The secret key. Default: as configured for AWS.
        aws_session_token: The token of temporary credentials. Default: as configured for AWS.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        table_config: More parameters for CreateTable, such as `Tags`. The table's keys and billing can't be changed.
        auto_create: Whether to create the table if it is missing. Default True.
        consistent_reads: Whether reads see every acknowledged write. False halves the price of a read, which may then be about a second
            out of date. Default True.
        timeout: Seconds allowed for a complete answer to a request, for clients that the store creates. Default 5.

    Raises:
        ValueError: Both a client and options for a client, an invalid table name or endpoint URL, or a timeout that is not positive.
        TypeError: The client is not a DynamoDB client.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = advise_on_tls(_TLS, driver_errors.ERRORS)

    @constructor.check_types
    def __init__(
        self,
        *,
        client: Any = None,
        table_name: str,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        default_collection: str | None = None,
        table_config: dict[str, Any] | None = None,
        auto_create: bool = True,
        consistent_reads: bool = True,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(default_collection=default_collection)
        constructor.check_seconds(timeout, "timeout")
        self.layout: KeyLayout = driver.TableLayout()
        self._table = clients.Table(table_name, table_config or {}, auto_create, timeout)
        self._consistent = consistent_reads
        options: dict[str, Any] = {
            "region_name": region_name,
            "endpoint_url": endpoint_url,
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_session_token": aws_session_token,
        }
        if client is None:
            clients.check_options(options)
            self._host = clients.host_of(endpoint_url) or region_name
            options["config"] = clients.configure(timeout)
            self._clients = Clients(
                "DynamoDBStore",
                create=partial(clients.create_client, options),
                create_async=partial(clients.create_async_client, options),
                capacity=clients.capacity_of,
                peer=peer_of("DynamoDB", endpoint_url, _TLS, (exceptions.ClientError,), driver_errors.TIMEOUTS),
                interruptible=False,
            )
            return
        if any(value is not None for value in options.values()):
            raise ValueError("Give DynamoDBStore either a client, or region, endpoint and credentials")
        is_of_service = clients.is_of_service(client)
        self._clients = Clients.borrow(
            "DynamoDBStore",
            client,
            sync_types=(BaseClient,) if is_of_service else (),
            async_types=(AioBaseClient,) if is_of_service else (),
            wanted="one of botocore, boto3 or aiobotocore for the service `dynamodb`, and entered if it is a context manager",
            capacity=clients.capacity_of,
            interruptible=False,
        )
        self._host = clients.host_of(client.meta.endpoint_url)

    async def _open(self) -> None:
        await super()._open()
        await self._table.open(self._use)

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return driver_errors.code_of(error) is None and not isinstance(error, driver_errors.TIMEOUTS)

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Sequence[Stored | None]:
        if len(names) == 1:
            answer = await self._table.request(self._use, "get_item", Key=driver.encode_key(names[0]), ConsistentRead=self._consistent)
            return (driver.read_item(answer["Item"]) if "Item" in answer else None,)
        pages = list(split_chunks(names, _READ_AT_ONCE))
        found: dict[str, Stored] = {}
        for page in await runtime.map_concurrent(self._read_batch, pages, limit=_REQUESTS_AT_ONCE):
            found |= page
        return [found.get(name) for name in names]

    async def _read_batch(self, names: Sequence[str]) -> dict[str, Stored]:
        wanted = {"Keys": [driver.encode_key(name) for name in names], "ConsistentRead": self._consistent}
        answers = await self._table.request_batch(self._use, "batch_get_item", wanted)
        items = [item for answer in answers for items in answer.get("Responses", {}).values() for item in items]
        return {driver.read_name(item): driver.read_item(item) for item in items}

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        items = [driver.encode_item(name, entry) for name, entry in rows]
        if len(items) == 1:
            await self._table.request(self._use, "put_item", repeatable=False, Item=items[0][0])
        else:
            await runtime.map_concurrent(self._write_batch, list(driver.split_items(items)), limit=_REQUESTS_AT_ONCE)

    async def _write_batch(self, items: Sequence[tuple[dict[str, Any], int]]) -> None:
        wanted = [{"PutRequest": {"Item": item}} for item, _ in items]
        await self._table.request_batch(self._use, "batch_write_item", wanted, repeatable=False)

    async def _pop(self, names: Sequence[str]) -> Sequence[Stored | KeyValueError | None]:
        return await map_outcomes(self._pop_item, names, limit=_REQUESTS_AT_ONCE)

    async def _pop_item(self, name: str) -> Stored | None:
        key = driver.encode_key(name)
        answer = await self._table.request(self._use, "delete_item", repeatable=False, Key=key, ReturnValues="ALL_OLD")
        return driver.read_item(answer["Attributes"]) if "Attributes" in answer else None

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        return await runtime.map_concurrent(self._change, changes, limit=_REQUESTS_AT_ONCE)

    async def _change(self, change: CompareAndSet) -> bool:
        name, version, entry = change
        document: bytes | None = None
        if driver.needs_document(version):
            (stored,) = await self._read([name])
            if stored is None or stored.version != version:
                return False
            document = stored.document
        condition = driver.build_condition(version, document)
        try:
            if entry is None:
                await self._table.request(self._use, "delete_item", repeatable=False, Key=driver.encode_key(name), **condition)
            else:
                await self._table.request(self._use, "put_item", repeatable=False, Item=driver.encode_item(name, entry)[0], **condition)
        except StoreRefusedError as error:
            if driver_errors.code_of(error.__cause__) == driver_errors.UNMET:
                return False
            raise
        return True

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        operation, parameters = driver.build_listing(prefix)
        while True:
            page = await self._table.request(self._use, operation, ConsistentRead=self._consistent, **parameters)
            yield [(driver.read_name(item), driver.read_item(item)) for item in page["Items"]]
            if not page.get("LastEvaluatedKey"):
                return
            parameters["ExclusiveStartKey"] = page["LastEvaluatedKey"]
