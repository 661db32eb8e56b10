"""What the author of a wrapper derives from; see `keyvalue._core.wrapper` for the hooks."""

from keyvalue._core.envelope import from_json, to_json
from keyvalue._core.wrapper import BaseWrapper, Operation

__all__ = ["BaseWrapper", "Operation", "from_json", "to_json"]
