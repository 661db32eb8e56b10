"""How DynamoDB is reached: clients, and the table with its set-up and its requests."""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

import anyio

from keyvalue._core import constructor, runtime
from keyvalue._core.extras import needs
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers.dynamodb_errors import ADVICE_WHEN_BUSY, BUSY, DENIED, IN_USE, MISSING, NO_CREDENTIALS, code_of
from keyvalue.stores._drivers.http import limit_pools
from keyvalue.stores._drivers.use import Use

with needs("dynamodb"):
    import aiobotocore.session
    import botocore.loaders
    import botocore.session
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from aiohttp import ClientTimeout
    from botocore.client import BaseClient
    from botocore.exceptions import NoRegionError

_CONNECTIONS = 20
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds before a request is made again
_POLLING = 0.8  # seconds between two looks at a table that is being created
_LONGEST_CREATION = 300  # seconds; on AWS it takes about ten
_SET_UP = {"describe_table", "create_table", "describe_time_to_live", "update_time_to_live"}
_KEYS = (("collection", "HASH"), ("key", "RANGE"))


def check_options(options: Mapping[str, str | None]) -> None:
    """Check region, endpoint and credentials of a client to be.

    Raises:
        ValueError: One of them can't be what it is given as.
    """
    region, endpoint = options["region_name"], options["endpoint_url"]
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise ValueError("DynamoDBStore: endpoint_url must start with http:// or https://, as in http://localhost:8000")
    if endpoint is not None and "@" in endpoint:
        raise ValueError("DynamoDBStore: endpoint_url has no user name and password; pass aws_access_key_id and aws_secret_access_key")
    for name, text in options.items():
        if name.startswith("aws_"):
            constructor.check_header("DynamoDBStore", name, text or None)
    if region is not None and not re.fullmatch("[A-Za-z0-9-]+", region):
        raise ValueError("DynamoDBStore: region_name must be the name of a region, such as us-east-1; give a URL as endpoint_url")


def is_of_service(client: object) -> bool:
    """Return whether this is a client, of either kind, for DynamoDB."""
    return isinstance(client, BaseClient) and client.meta.service_model.service_name == "dynamodb"


def capacity_of(client: Any) -> int:
    """Return how many connections a client keeps."""
    return client.meta.config.max_pool_connections


def host_of(url: str | None) -> str | None:
    """Return host and port of a URL."""
    return None if url is None else urlsplit(url).netloc.rpartition("@")[2]


def configure(timeout: float) -> AioConfig:
    """Return the configuration of a client that a store creates; it fits botocore and aiobotocore."""
    return AioConfig(
        http_session_cls=_LimitedSession,
        connect_timeout=timeout,
        read_timeout=timeout,
        # A delete that is sent again after its answer was lost finds nothing and says so: the store knows what may be repeated.
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        parameter_validation=False,
        user_agent=f"keyvalue botocore/{botocore.__version__}",  # botocore's own is put together anew for each request
    )


class _LimitedSession(AIOHTTPSession):
    """One in which a request takes as long as it may be silent, at most: otherwise a reply that drips would never end."""

    def __init__(self, *args: Any, timeout: Any, **options: Any) -> None:
        super().__init__(*args, timeout=timeout, **options)
        connect, read = timeout
        # A timeout around `send` would cost seven times as much: 35 microseconds.
        self._timeout = ClientTimeout(total=read, sock_connect=connect, sock_read=read)


def create_client(options: Mapping[str, Any]) -> Any:
    """Create a synchronous client."""
    with _region_needed():
        client: Any = _create_session(botocore.session).create_client("dynamodb", **options)
    pools = client._endpoint.http_session._pool_classes_by_scheme  # it has no other way in
    pools.update(limit_pools(pools))
    return client


async def create_async_client(options: Mapping[str, Any]) -> Any:
    """Create an asynchronous client, and enter it."""
    session = await runtime.run_in_worker(partial(create_session_with_credentials, options))
    with _region_needed():
        return await session.create_client("dynamodb", **options).__aenter__()


@contextmanager
def _region_needed() -> Generator[None, None, None]:
    try:
        yield
    except NoRegionError as error:
        raise StoreSetupError("DynamoDBStore: there is no region; pass region_name") from error


def create_session_with_credentials(options: Mapping[str, Any]) -> Any:
    """Return an asynchronous session that has read all files; called in a worker thread, as it would read them on the event loop."""
    session = _create_session(aiobotocore.session)
    are_given = options["aws_access_key_id"] is not None or options["aws_secret_access_key"] is not None
    # In a context of its own, as the caller's says that a loop is running.
    if not are_given and Context().run(anyio.run, session.get_credentials) is None:
        raise StoreRefusedError(f"DynamoDBStore: {NO_CREDENTIALS}")
    return session


def _create_session(package: Any) -> Any:
    session = package.get_session()
    session.register_component("data_loader", _create_loader(session.get_config_variable("data_path")))
    return session


@lru_cache(1)
def _create_loader(data_path: str | None) -> Any:
    """Return a loader that has read the descriptions of the service from disk; all sessions share it."""
    loader = botocore.loaders.create_loader(data_path)
    session = botocore.session.get_session()
    session.register_component("data_loader", loader)
    session.create_client("dynamodb", region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-")  # noqa: S106 # none
    return loader


class Table:
    """A table, and requests about it, which are made again while the server is busy.

    Args:
        name: Its name or ARN.
        config: More parameters for CreateTable.
        auto_create: Whether to create the table if it is missing.
        timeout: Seconds that the pauses between the attempts of a request take, at most.

    Raises:
        ValueError: No table can have that name.
    """

    def __init__(self, name: str, config: Mapping[str, Any], auto_create: bool, timeout: float) -> None:
        if not name:
            raise ValueError("DynamoDBStore needs the name of a table")
        if not name.startswith("arn:") and not re.fullmatch("[a-zA-Z0-9_.-]{3,255}", name):
            raise ValueError("DynamoDBStore: table_name must be 3 to 255 of the characters a-z, A-Z, 0-9, `_`, `.` and `-`, or an ARN")
        self._name = name
        self._config = config
        self._auto_create = auto_create
        self._pauses = [pause for number, pause in enumerate(_PAUSES) if sum(_PAUSES[: number + 1]) <= timeout]

    async def request(self, use: Use, operation: str, *, repeatable: bool = True, **parameters: Any) -> Any:
        """Make a request, and again while the server is busy. If the table was deleted meanwhile, it is created again."""
        if "RequestItems" not in parameters:
            parameters["TableName"] = self._name
        may_create = self._auto_create and operation not in _SET_UP
        pauses = iter(self._pauses)
        while True:
            try:
                return await use(lambda client: getattr(client, operation)(**parameters), repeatable=repeatable)
            except KeyValueStoreError as error:
                code = code_of(error.__cause__)
                if code == MISSING and may_create:
                    await self._prepare(use)
                    may_create = False
                elif code in BUSY or (repeatable and code is not None and isinstance(error, StoreConnectionError)):
                    await _pause(pauses, error)
                else:
                    raise

    async def request_batch(self, use: Use, operation: str, wanted: Any, *, repeatable: bool = True) -> list[Any]:
        """Make a batch request, and again for what the server did not process; return all answers.

        Raises:
            StoreConnectionError: The server went on processing nothing.
        """
        answers: list[Any] = []
        left: Any = {self._name: wanted}
        pauses = iter(self._pauses)
        while left:
            answer = await self.request(use, operation, repeatable=repeatable, RequestItems=left)
            answers.append(answer)
            before = _count(left)
            left = answer.get("UnprocessedKeys") or answer.get("UnprocessedItems")
            if left:
                pauses = iter(self._pauses) if _count(left) < before else pauses
                await _pause(pauses, StoreConnectionError(f"DynamoDBStore: {ADVICE_WHEN_BUSY}"))
        return answers

    async def open(self, use: Use) -> None:
        """See that the table is there and can be used, as far as the credentials allow: who may use it need not be allowed to look."""
        try:
            await self._prepare(use)
        except StoreRefusedError as error:
            if code_of(error.__cause__) != DENIED:
                raise

    async def _prepare(self, use: Use) -> None:
        deadline = runtime.monotonic() + _LONGEST_CREATION
        while (table := await self._describe(use) or await self._create(use)) is None or table["TableStatus"] in ("CREATING", "DELETING"):
            if runtime.monotonic() > deadline:
                raise StoreConnectionError(f"DynamoDBStore: the table {self._name} does not become active")
            await runtime.sleep(_POLLING)
        if {(part["AttributeName"], part["KeyType"]) for part in table["KeySchema"]} != set(_KEYS):
            raise StoreSetupError(f"DynamoDBStore: the table {self._name} has other keys than `collection` and `key`; use another table")
        with suppress(StoreRefusedError):  # it only reclaims space, and another process may just have enabled it
            ttl = await self.request(use, "describe_time_to_live")
            if ttl["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED":
                await self.request(use, "update_time_to_live", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"})

    async def _describe(self, use: Use) -> Any | None:
        """Return the description of the table; None if there is no table."""
        try:
            answer = await self.request(use, "describe_table")
        except StoreRefusedError as error:
            if code_of(error.__cause__) == MISSING:
                return None
            raise
        if "Table" not in answer:
            raise StoreRefusedError("DynamoDBStore: the answer is not one of DynamoDB; is endpoint_url right?")
        return answer["Table"]

    async def _create(self, use: Use) -> Any | None:
        """Create the table, and return its description; None if another process is creating or deleting it."""
        if not self._auto_create:
            raise StoreSetupError(f"DynamoDBStore: the table {self._name} does not exist; create it, or pass auto_create=True")
        parameters: dict[str, Any] = {
            **self._config,
            "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in _KEYS],
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name, _ in _KEYS],
            "BillingMode": "PAY_PER_REQUEST",
        }
        try:
            return (await self.request(use, "create_table", **parameters))["TableDescription"]
        except StoreRefusedError as error:
            code = code_of(error.__cause__)
            if code == DENIED:
                raise StoreSetupError(
                    f"DynamoDBStore: the table {self._name} does not exist, and these credentials may not create it; have it created"
                ) from error
            if code != IN_USE:
                raise
            return None


def _count(items: Mapping[str, Any]) -> int:
    """Return how many items are wanted of a batch request."""
    return sum(len(part["Keys"]) if "Keys" in part else len(part) for part in items.values())


async def _pause(pauses: Iterator[float], error: KeyValueStoreError) -> None:
    """Wait before the next attempt; raise an error if there were enough."""
    seconds = next(pauses, None)
    if seconds is None:
        raise error
    await runtime.sleep(random.uniform(seconds / 2, seconds))  # noqa: S311 # jitter is no secret
