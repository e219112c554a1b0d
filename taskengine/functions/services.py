"""Objects that job functions are given by key: a text, or the type that an argument is annotated with."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Self

from taskengine.errors import InvalidConfiguration, JobError, NotSupportedYet

__all__ = ["ServiceKey", "Services", "key_text"]

ServiceKey = str | type


def key_text(key: ServiceKey) -> str:
    """A key as people write it; for a type also how a worker process finds it again."""
    return key if isinstance(key, str) else f"{key.__module__}:{key.__qualname__}"


class Services:
    """What `with_service` registered. Filled before the engine starts; read from any thread after that.

    An object lives in this process. A factory is an import path, `package.module:function`: it is called once
    in each process that asks, so that process jobs have the service too.
    """

    def __init__(self) -> None:
        self._objects: dict[ServiceKey, Any] = {}
        self._factories: dict[ServiceKey, str] = {}
        self._elsewhere: frozenset[ServiceKey] = frozenset()

    def with_service(self, key: ServiceKey, service: object) -> Self:
        self._require_new(key)
        self._objects[key] = service
        return self

    def with_service_factory(self, key: ServiceKey, path: str) -> Self:
        """`path` is `module:function`; the function takes nothing and gives the service."""
        self._require_new(key)
        module, _, name = path.partition(":")
        if not module or not name:
            raise InvalidConfiguration(f"service {key_text(key)!r}: {path!r} is not of the form module:function")
        self._factories[key] = path
        return self

    def get(self, key: ServiceKey) -> Any:
        """The service of that key. Raises JobError that lists the keys there are."""
        if key in self._objects:
            return self._objects[key]
        if key in self._factories:
            return self._objects.setdefault(key, _make(key, self._factories[key]))
        if key in self._elsewhere:
            raise NotSupportedYet(
                f"service {key_text(key)!r} is an object of the engine's process; a process job gets only services "
                "that were registered as a factory by import path: with_service_factory(key, 'module:function')"
            )
        known = ", ".join(sorted(key_text(each) for each in self.keys())) or "none"
        raise JobError(f"no service {key_text(key)!r}; registered are: {known}. Register it: with_service(key, object)")

    def has(self, key: ServiceKey) -> bool:
        """Whether `get` knows the key, even if only to say that it is in another process."""
        return key in self._objects or key in self._factories or key in self._elsewhere

    def keys(self) -> list[ServiceKey]:
        return [*self._objects, *(key for key in self._factories if key not in self._objects)]

    def factories(self) -> Mapping[ServiceKey, str]:
        return dict(self._factories)

    def plain_objects(self) -> list[ServiceKey]:
        """Keys of services that only this process has."""
        return [key for key in self._objects if key not in self._factories]

    @classmethod
    def elsewhere(cls, factories: Mapping[ServiceKey, str], objects: list[ServiceKey]) -> "Services":
        """The same keys in a worker process: factories work, objects are refused with advice."""
        services = cls()
        services._factories = dict(factories)
        services._elsewhere = frozenset(objects)
        return services

    def _require_new(self, key: ServiceKey) -> None:
        if self.has(key):
            raise InvalidConfiguration(f"a service {key_text(key)!r} is registered already")


def _make(key: ServiceKey, path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        factory: Any = import_module(module)
        for part in name.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise JobError(f"service {key_text(key)!r}: its factory {path!r} cannot be imported: {error}") from error
    return factory()
