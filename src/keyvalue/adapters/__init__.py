"""Adapters: stores seen through types. Each is in a module of its own; their synchronous versions are in `keyvalue.blocking`."""
