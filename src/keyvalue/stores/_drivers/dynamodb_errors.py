"""What the errors of botocore and aiobotocore mean."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from keyvalue._core.error_rules import ErrorRule
from keyvalue._core.extras import needs
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError

with needs("dynamodb"):
    import aiohttp
    from botocore import exceptions
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import NewConnectionError

# What the server calls its errors.
MISSING = "ResourceNotFoundException"
DENIED = "AccessDeniedException"
UNMET = "ConditionalCheckFailedException"
IN_USE = "ResourceInUseException"
BUSY = {
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
    DENIED,
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}

TIMEOUTS = (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError)
NO_CREDENTIALS = "there are no credentials; pass aws_access_key_id and aws_secret_access_key"
ADVICE_WHEN_BUSY = "the server is busy; try again later, or raise the capacity of the table"
_REFUSED_CREDENTIALS = "the server refused the credentials; check aws_access_key_id, aws_secret_access_key, aws_session_token and rights"
_NO_TABLE = "the table does not exist; create it, or pass auto_create=True"
_UNREACHABLE = "could not reach the server; are region_name and endpoint_url right?"
_STRANGER = "the answer is not one of DynamoDB; is endpoint_url right?"
_REFUSED_BY_CLIENT = "the client refused the request; check region_name, endpoint_url and credentials"


def code_of(error: BaseException | None) -> str | None:
    """Return the server's name for an error, or None if the server did not raise it."""
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, exceptions.ClientError) else None


def has_failed(error: exceptions.ClientError) -> bool:
    """Return whether the server could not do what it does not refuse."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or status in (408, 429) or code_of(error) in _FAILED


def is_unsent(error: exceptions.EndpointConnectionError) -> bool:
    """Return whether there was no connection. aiobotocore raises the same error if one was reset after the request."""
    return isinstance(error.kwargs.get("error"), aiohttp.ClientConnectorError | NewConnectionError | socket.gaierror)


def _rule(error: type[KeyValueStoreError], advice: str, when: Callable[[exceptions.ClientError], object]) -> ErrorRule[Any]:
    """Return a rule for what the server says: botocore has one exception for all that."""
    return ErrorRule(exceptions.ClientError, error, lambda told: f"{advice} ({told.operation_name}: {code_of(told)})", when)


ERRORS = (
    _rule(StoreConnectionError, ADVICE_WHEN_BUSY, lambda error: code_of(error) in BUSY),
    _rule(StoreRefusedError, _REFUSED_CREDENTIALS, lambda error: code_of(error) in _CREDENTIALS),
    _rule(StoreRefusedError, _NO_TABLE, lambda error: code_of(error) == MISSING),
    _rule(StoreConnectionError, "the server failed", has_failed),
    _rule(StoreRefusedError, "the server refused the request", lambda error: True),
    ErrorRule(exceptions.NoCredentialsError, StoreRefusedError, NO_CREDENTIALS),
    ErrorRule(TIMEOUTS, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(exceptions.EndpointConnectionError, StoreConnectionError, _UNREACHABLE, is_unsent, unsent=True),
    ErrorRule((exceptions.HTTPClientError, exceptions.ConnectionError), StoreConnectionError, _UNREACHABLE),
    ErrorRule(exceptions.CredentialRetrievalError, StoreConnectionError, "could not obtain the credentials"),
    ErrorRule(ResponseParserError, StoreConnectionError, _STRANGER),
    ErrorRule(exceptions.BotoCoreError, StoreRefusedError, _REFUSED_BY_CLIENT),
    ErrorRule((aiohttp.ClientError, OSError), StoreConnectionError, "could not reach the server"),
)
"""What to raise for them."""
