"""What every store shares. Nothing in here knows a backend."""
