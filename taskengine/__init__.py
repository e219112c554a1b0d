"""taskengine: a durable workflow engine that ships as one file."""
