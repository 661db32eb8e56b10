"""The stores, one module a backend. Importing one imports its client."""
