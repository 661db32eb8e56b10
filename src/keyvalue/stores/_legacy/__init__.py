"""What py-key-value-aio left in backends, where reading it takes more than the core's part."""
