"""What py-key-value-aio stored in ways that this library reads and no longer writes."""
