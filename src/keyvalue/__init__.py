"""One small key-value protocol over many backends, for asyncio, trio and synchronous code.

Stores are in `keyvalue.stores`, wrappers in `keyvalue.wrappers`, the synchronous façade in `keyvalue.blocking`. Importing this package
imports no backend's client.
"""

from keyvalue.errors import KeyValueError
from keyvalue.protocols.key_value import AsyncKeyValue, KeyValue

__all__ = ["AsyncKeyValue", "KeyValue", "KeyValueError", "__version__"]

__version__ = "0.1.0.dev0"
