"""What the author of a wrapper derives from; see `keyvalue._core.wrapper` for the hooks."""

from keyvalue._core.envelope import from_json, to_json
from keyvalue._core.operation import Operation
from keyvalue._core.wrapper import BaseWrapper

__all__ = ["BaseWrapper", "Operation", "from_json", "to_json"]
