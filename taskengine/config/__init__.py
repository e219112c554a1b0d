"""Settings: what a server is told by flags, environment and file, and where it keeps what it makes."""

from taskengine.config.loading import Origin, Settings, find_file, load
from taskengine.config.sections import (
    Config,
    DatabaseConfig,
    EngineConfig,
    ExecutionConfig,
    FunctionsConfig,
    GeneralConfig,
    LimitsConfig,
    RetryConfig,
    ServerConfig,
    StorageConfig,
)

__all__ = [
    "Config",
    "DatabaseConfig",
    "EngineConfig",
    "ExecutionConfig",
    "FunctionsConfig",
    "GeneralConfig",
    "LimitsConfig",
    "Origin",
    "RetryConfig",
    "ServerConfig",
    "Settings",
    "StorageConfig",
    "find_file",
    "load",
]
