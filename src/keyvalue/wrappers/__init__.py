"""The wrappers, one module each."""
