"""A store in a table of Amazon DynamoDB, over aiobotocore and botocore."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from keyvalue._core import constructor, runtime
from keyvalue._core.clients import Clients
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.flat import map_outcomes
from keyvalue._core.layout import KeyLayout
from keyvalue._core.listing import EnumerableFlatStore
from keyvalue._core.sockets import TlsOptions
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueError, KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers.dynamodb import (
    NO_CREDENTIALS,
    LimitedSession,
    TableLayout,
    batches,
    close,
    condition_for,
    create_async_client,
    create_client,
    host_of,
    is_table,
    item_of,
    key_of,
    name_of,
    needs_document,
    stored_in,
)
from keyvalue.stores._drivers.http import peer_of

with needs("dynamodb"):
    import aiohttp
    import botocore
    import botocore.parsers
    from aiobotocore.client import AioBaseClient
    from aiobotocore.config import AioConfig
    from botocore import exceptions
    from botocore.client import BaseClient
    from urllib3.exceptions import NewConnectionError

__all__ = ["DynamoDBStore"]

_READ_AT_ONCE = 100  # items of one BatchGetItem
_REQUESTS_AT_ONCE = 10
_CONNECTIONS = 20
_TIMEOUTS = (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError)
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds before a request is made again
_LONGEST_CREATION = 300  # seconds; on AWS it takes about ten

# What the server calls its errors.
_MISSING = "ResourceNotFoundException"
_DENIED = "AccessDeniedException"
_UNMET = "ConditionalCheckFailedException"
_IN_USE = "ResourceInUseException"
_BUSY = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "LimitExceededException",
    "TransactionConflictException",
    "ReplicatedWriteConflictException",
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottledException",
    "TooManyRequestsException",
}
_FAILED = {"RequestTimeout", "RequestTimeoutException"}  # with a status that says otherwise
_CREDENTIALS = {
    _DENIED,
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}


def _code_of(error: BaseException | None) -> str | None:
    """Return the server's name for an error, or None if the server did not raise it."""
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, exceptions.ClientError) else None


def _status_of(error: exceptions.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _rule(error: type[KeyValueStoreError], advice: str, when: Callable[[exceptions.ClientError], object]) -> ErrorRule[Any]:
    """Return a rule for what the server says: botocore has one exception for all that."""
    return ErrorRule(exceptions.ClientError, error, lambda told: f"{advice} ({told.operation_name}: {_code_of(told)})", when)


def _is_unsent(error: exceptions.EndpointConnectionError) -> bool:
    # aiobotocore calls it so too if a connection was reset after the request.
    return isinstance(error.kwargs.get("error"), aiohttp.ClientConnectorError | NewConnectionError | socket.gaierror)


_UNREACHABLE = "could not reach the server; are region_name and endpoint_url right?"


class DynamoDBStore(EnumerableFlatStore):
    """Keeps entries in a table of DynamoDB, shared with whatever else lies there.

    Format: an item has `collection` (string, the partition key), `key` (string, the sort key), `value` (string, the JSON document of
    `keyvalue._core.entry`), `token` (string, random, new with each write) and, if the entry expires, `ttl` (number, the epoch second at or
    after that moment), which is the table's time to live. A collection of more than 2048 bytes, or a key of more than 1024, is replaced by
    `~` and its SHA-256 in hexadecimal, and so is one that looks like that; the document has the names as they were given.

    The table is created at the first use if it is missing, with on-demand billing, and its time to live is enabled, as far as the
    credentials allow. Listing a collection is a query; listing the collections, culling and destroying scan the table. Items that this
    library did not write are left alone, and the table itself always stays. On asyncio the store awaits an aiobotocore client, one for
    each event loop; on trio it calls a botocore client in worker threads, and in synchronous code directly.

    Args:
        client: A client to use, of botocore (or boto3) or of aiobotocore. It is never closed. A synchronous one works on every runtime; an
            asynchronous one, which must have been entered, only on the event loop where it is first used.
        table_name: The table.
        region_name: The region, if there is no client. Default: as configured for AWS.
        endpoint_url: Another endpoint than that of the region, such as that of DynamoDB Local.
        aws_access_key_id: Credentials. Default: as configured for AWS.
        aws_secret_access_key: Likewise.
        aws_session_token: Likewise.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        table_config: More parameters for CreateTable, such as `Tags`. The table's keys and billing can't be changed.
        auto_create: Whether to create the table if it is missing. Default True.
        consistent_reads: Whether reads see every write that was acknowledged before. False halves what reads cost, and a read may then
            return what was there about a second ago. Default True.
        timeout: Seconds until the whole answer to a request must be there, for clients that the store makes. Default 5.

    Raises:
        ValueError: Both a client and what a client is made of, what can't be the name of a table or the URL of an endpoint, or a timeout
            that is not positive.
        TypeError: The client is not one of DynamoDB.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    tls: ClassVar[TlsOptions] = TlsOptions(
        "write https:// in endpoint_url",
        "write http:// in endpoint_url",
        "name the file with its certificate by the variable AWS_CA_BUNDLE",
    )
    errors: ErrorRules = (
        _rule(
            StoreConnectionError,
            "the server is busy; try again later, or raise the capacity of the table",
            lambda error: _code_of(error) in _BUSY,
        ),
        _rule(
            StoreRefusedError,
            "the server refused the credentials; check aws_access_key_id, aws_secret_access_key, aws_session_token and rights",
            lambda error: _code_of(error) in _CREDENTIALS,
        ),
        _rule(
            StoreRefusedError,
            "the table does not exist; create it, or pass auto_create=True",
            lambda error: _code_of(error) == _MISSING,
        ),
        _rule(
            StoreConnectionError,
            "the server failed",
            lambda error: _status_of(error) >= 500 or _status_of(error) in (408, 429) or _code_of(error) in _FAILED,
        ),
        _rule(StoreRefusedError, "the server refused the request", lambda error: True),
        ErrorRule(exceptions.NoCredentialsError, StoreRefusedError, NO_CREDENTIALS),
        ErrorRule(exceptions.ConnectTimeoutError, StoreConnectionError, "the server did not answer in time"),
        ErrorRule(exceptions.ReadTimeoutError, StoreConnectionError, "the server did not answer in time"),
        ErrorRule(exceptions.EndpointConnectionError, StoreConnectionError, _UNREACHABLE, _is_unsent, unsent=True),
        ErrorRule((exceptions.HTTPClientError, exceptions.ConnectionError), StoreConnectionError, _UNREACHABLE),
        ErrorRule(exceptions.CredentialRetrievalError, StoreConnectionError, "could not obtain the credentials"),
        ErrorRule(botocore.parsers.ResponseParserError, StoreConnectionError, "the answer is not one of DynamoDB; is endpoint_url right?"),
        ErrorRule(
            exceptions.BotoCoreError, StoreRefusedError, "the client refused the request; check region_name, endpoint_url and credentials"
        ),
        ErrorRule(aiohttp.ClientError, StoreConnectionError, "could not reach the server"),
        ErrorRule(OSError, StoreConnectionError, "could not reach the server"),
    )

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
        self.layout: KeyLayout = TableLayout()
        self._table = table_name
        self._table_config = table_config or {}
        self._auto_create = auto_create
        self._consistent = consistent_reads
        constructor.check_seconds(timeout, "timeout")
        # Together these are no longer than a request may wait.
        self._pauses = [pause for number, pause in enumerate(_PAUSES) if sum(_PAUSES[: number + 1]) <= timeout]
        if not table_name:
            raise ValueError("DynamoDBStore needs the name of a table")
        if not is_table(table_name):
            raise ValueError("DynamoDBStore: table_name must be 3 to 255 of the characters a-z, A-Z, 0-9, `_`, `.` and `-`, or an ARN")
        if endpoint_url is not None and not endpoint_url.startswith(("http://", "https://")):
            raise ValueError("DynamoDBStore: endpoint_url must start with http:// or https://, as in http://localhost:8000")
        if endpoint_url is not None and "@" in endpoint_url:
            raise ValueError("DynamoDBStore: endpoint_url has no user name and password; pass aws_access_key_id and aws_secret_access_key")
        credentials = {
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_session_token": aws_session_token,
        }
        for name, text in credentials.items():
            constructor.check_header("DynamoDBStore", name, text or None)
        options: dict[str, Any] = {"region_name": region_name, "endpoint_url": endpoint_url, **credentials}
        if client is None:
            if region_name is not None and not re.fullmatch("[A-Za-z0-9-]+", region_name):
                raise ValueError("DynamoDBStore: region_name must be the name of a region, such as us-east-1; give a URL as endpoint_url")
            self._host = host_of(endpoint_url) or region_name
            options["config"] = AioConfig(
                http_session_cls=LimitedSession,
                connect_timeout=timeout,
                read_timeout=timeout,
                # A delete that is sent again after its answer was lost finds nothing and says so: the store knows what may be repeated.
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=_CONNECTIONS,
                tcp_keepalive=True,
                parameter_validation=False,
                user_agent=f"keyvalue botocore/{botocore.__version__}",  # botocore's own is put together anew for each request
            )
            self._clients = Clients(
                "DynamoDBStore",
                create=partial(create_client, options),
                create_async=partial(create_async_client, options),
                close=close,
                capacity=_capacity,
                peer=peer_of("DynamoDB", endpoint_url, self.tls, (exceptions.ClientError,), _TIMEOUTS),
                interruptible=False,
            )
            return
        if any(value is not None for value in options.values()):
            raise ValueError("Give DynamoDBStore either a client, or region, endpoint and credentials")
        is_of_service = isinstance(client, BaseClient) and client.meta.service_model.service_name == "dynamodb"
        self._clients = Clients.borrow(
            "DynamoDBStore",
            client,
            sync_types=(BaseClient,) if is_of_service else (),
            async_types=(AioBaseClient,) if is_of_service else (),
            wanted="one of botocore, boto3 or aiobotocore for the service `dynamodb`, and entered if it is a context manager",
            capacity=_capacity,
            interruptible=False,
        )
        self._host = host_of(client.meta.endpoint_url)

    # The table

    async def _open(self) -> None:
        await super()._open()
        try:
            await self._prepare()
        except StoreRefusedError as error:
            if _code_of(error.__cause__) != _DENIED:
                raise
            # Who may use a table need not be allowed to look at what it is like.

    async def _prepare(self) -> None:
        """See that the table is there and can be used."""
        deadline = runtime.monotonic() + _LONGEST_CREATION
        while True:
            table = await self._described()
            if table is None:
                if not self._auto_create:
                    raise StoreSetupError(f"DynamoDBStore: the table {self._table} does not exist; create it, or pass auto_create=True")
                table = await self._created()
            if table is not None and table["TableStatus"] not in ("CREATING", "DELETING"):
                break
            if runtime.monotonic() > deadline:
                raise StoreConnectionError(f"DynamoDBStore: the table {self._table} does not become active")
            await runtime.sleep(_PAUSES[-2])
        if {(part["AttributeName"], part["KeyType"]) for part in table["KeySchema"]} != {("collection", "HASH"), ("key", "RANGE")}:
            raise StoreSetupError(f"DynamoDBStore: the table {self._table} has other keys than `collection` and `key`; use another table")
        try:
            ttl = await self._request("describe_time_to_live", TableName=self._table)
            if ttl["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED":
                wanted = {"Enabled": True, "AttributeName": "ttl"}
                await self._request("update_time_to_live", TableName=self._table, TimeToLiveSpecification=wanted)
        except StoreRefusedError:
            pass  # it only reclaims space, and somebody else may just have enabled it

    async def _described(self) -> Any | None:
        try:
            answer = await self._request("describe_table", TableName=self._table)
        except StoreRefusedError as error:
            if _code_of(error.__cause__) == _MISSING:
                return None
            raise
        if "Table" not in answer:
            raise StoreRefusedError("DynamoDBStore: the answer is not one of DynamoDB; is endpoint_url right?")
        return answer["Table"]

    async def _created(self) -> Any | None:
        parameters: dict[str, Any] = self._table_config | {
            "TableName": self._table,
            "KeySchema": [{"AttributeName": "collection", "KeyType": "HASH"}, {"AttributeName": "key", "KeyType": "RANGE"}],
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("collection", "key")],
            "BillingMode": "PAY_PER_REQUEST",
        }
        try:
            return (await self._request("create_table", **parameters))["TableDescription"]
        except StoreRefusedError as error:
            if _code_of(error.__cause__) == _IN_USE:  # somebody else is creating it, or deleting it
                return None
            if _code_of(error.__cause__) == _DENIED:
                raise StoreSetupError(
                    f"DynamoDBStore: the table {self._table} does not exist, and these credentials may not create it; have it created"
                ) from error
            raise

    # Requests

    async def _request(self, operation: str, *, repeatable: bool = True, **parameters: Any) -> Any:
        """Make a request, and make it again where that may help."""
        pauses = iter(self._pauses)
        may_create = self._auto_create and (operation.endswith("_item") or operation in ("query", "scan"))
        while True:
            try:
                return await self._use(lambda client: getattr(client, operation)(**parameters), repeatable=repeatable)
            except KeyValueStoreError as error:
                code = _code_of(error.__cause__)
                if code == _MISSING and may_create:  # it was deleted since
                    await self._prepare()
                    may_create = False
                elif code in _BUSY or (repeatable and code is not None and isinstance(error, StoreConnectionError)):
                    pause = next(pauses, None)
                    if pause is None:
                        raise
                    await _wait(pause)
                else:
                    raise

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return _code_of(error) is None and not isinstance(error, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError)

    # Items

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Sequence[Stored | None]:
        if len(names) == 1:
            answer = await self._request("get_item", TableName=self._table, Key=key_of(names[0]), ConsistentRead=self._consistent)
            return (stored_in(answer["Item"]) if "Item" in answer else None,)
        pages = [names[start : start + _READ_AT_ONCE] for start in range(0, len(names), _READ_AT_ONCE)]
        found: dict[str, Stored] = {}
        for page in await runtime.map_concurrent(self._read_batch, pages, limit=_REQUESTS_AT_ONCE):
            found |= page
        return [found.get(name) for name in names]

    async def _read_batch(self, names: Sequence[str]) -> Mapping[str, Stored]:
        found: dict[str, Stored] = {}
        wanted = {self._table: {"Keys": [key_of(name) for name in names], "ConsistentRead": self._consistent}}
        pauses = iter(self._pauses)
        while wanted:
            answer = await self._request("batch_get_item", RequestItems=wanted)
            items = [item for items in answer.get("Responses", {}).values() for item in items]
            found |= {name_of(item): stored_in(item) for item in items}
            wanted = answer.get("UnprocessedKeys")
            if wanted:
                pauses = iter(self._pauses) if items else pauses
                await self._pause(pauses)
        return found

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        items = [item_of(name, entry) for name, entry in rows]
        if len(items) == 1:
            await self._request("put_item", repeatable=False, TableName=self._table, Item=items[0][0])
        else:
            await runtime.map_concurrent(self._write_batch, batches(items), limit=_REQUESTS_AT_ONCE)

    async def _write_batch(self, items: Sequence[Mapping[str, Any]]) -> None:
        wanted = {self._table: [{"PutRequest": {"Item": item}} for item in items]}
        left = len(items)
        pauses = iter(self._pauses)
        while wanted:
            answer = await self._request("batch_write_item", repeatable=False, RequestItems=wanted)
            wanted = answer.get("UnprocessedItems")
            if wanted:
                before, left = left, sum(map(len, wanted.values()))
                pauses = iter(self._pauses) if left < before else pauses
                await self._pause(pauses)

    async def _pause(self, pauses: Iterator[float]) -> None:
        """Wait before what was not processed is asked for again."""
        pause = next(pauses, None)
        if pause is None:
            raise StoreConnectionError("DynamoDBStore: the server is busy; try again later, or raise the capacity of the table")
        await _wait(pause)

    async def _pop(self, names: Sequence[str]) -> Sequence[Stored | KeyValueError | None]:
        return await map_outcomes(self._pop_item, names, limit=_REQUESTS_AT_ONCE)

    async def _pop_item(self, name: str) -> Stored | None:
        request = self._request("delete_item", repeatable=False, TableName=self._table, Key=key_of(name), ReturnValues="ALL_OLD")
        item = (await request).get("Attributes")
        return None if item is None else stored_in(item)

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        return await runtime.map_concurrent(self._change, changes, limit=_REQUESTS_AT_ONCE)

    async def _change(self, change: CompareAndSet) -> bool:
        name, version, entry = change
        document: bytes | None = None
        if needs_document(version):
            (stored,) = await self._read([name])
            if stored is None or stored.version != version:
                return False
            document = stored.document
        parameters: dict[str, Any] = {"TableName": self._table, **condition_for(version, document)}
        try:
            if entry is None:
                await self._request("delete_item", repeatable=False, Key=key_of(name), **parameters)
            else:
                await self._request("put_item", repeatable=False, Item=item_of(name, entry)[0], **parameters)
        except StoreRefusedError as error:
            if _code_of(error.__cause__) == _UNMET:
                return False
            raise
        return True

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        parameters: dict[str, Any] = {"TableName": self._table, "ConsistentRead": self._consistent}
        if prefix:
            parameters |= {
                "KeyConditionExpression": "#c = :c",
                "ExpressionAttributeNames": {"#c": "collection"},
                "ExpressionAttributeValues": {":c": key_of(prefix)["collection"]},
            }
        while True:
            page = await self._request("query" if prefix else "scan", **parameters)
            yield [(name_of(item), stored_in(item)) for item in page["Items"]]
            if not page.get("LastEvaluatedKey"):
                return
            parameters["ExclusiveStartKey"] = page["LastEvaluatedKey"]


async def _wait(pause: float) -> None:
    await runtime.sleep(random.uniform(pause / 2, pause))  # noqa: S311 # jitter is no secret


def _capacity(client: Any) -> int:
    """Return how many connections a client keeps."""
    return client.meta.config.max_pool_connections
