"""What travels over HTTP and WebSocket: bodies shared by `api/` and `client/`, so that the two cannot drift.

Times are aware datetimes (RFC 3339, UTC, in JSON), spans are seconds as float. Unknown fields are ignored in answers,
so that an older client reads a newer server; they are refused in requests, where they are somebody's typing error.
"""
