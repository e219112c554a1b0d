"""Databases for tests: where the servers are, an empty database for a test, servers that a test may kill."""
