"""Real servers for the tests, started when needed and stopped with them."""
