"""Objects that job functions are given by key: a text, or the type that an argument is annotated with."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from taskengine.errors import InvalidConfiguration, JobError, NotSupportedYet
from taskengine.functions.loading import home_of, resolve

__all__ = ["ServiceKey", "Services", "key_text"]

ServiceKey = str | type


def key_text(key: ServiceKey) -> str:
    """A key as people write it; that of a type is its import path, the same in every process."""
    return key if isinstance(key, str) else home_of(key)[0]


class Services:
    """What `with_service` registered. Filled before the engine starts; read from any thread after that.

    An object lives in this process. A factory is an import path, `package.module:function`: it is called once
    in each process that asks, so that process jobs have the service too.
    """

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}
        self._factories: dict[str, str] = {}
        self._elsewhere: frozenset[str] = frozenset()

    def with_service(self, key: ServiceKey, service: object) -> Self:
        """Raises InvalidConfiguration when the key is taken."""
        self._objects[self._new(key)] = service
        return self

    def with_service_factory(self, key: ServiceKey, path: str) -> Self:
        """`path` is `module:function`; the function takes nothing and gives the service. Raises as `with_service`."""
        module, _, name = path.partition(":")
        if not module or not name:
            raise InvalidConfiguration(f"service {key_text(key)!r}: {path!r} is not of the form module:function")
        self._factories[self._new(key)] = path
        return self

    def get(self, key: ServiceKey) -> Any:
        """The service of that key. Raises JobError that lists the keys there are; a factory's errors go through."""
        name = key_text(key)
        if name in self._objects:
            return self._objects[name]
        if name in self._factories:
            return self._objects.setdefault(name, _make(name, self._factories[name]))
        if name in self._elsewhere:
            raise NotSupportedYet(
                f"service {name!r} is an object of the engine's process; a process job gets only services that are "
                f"registered as a factory by import path: with_service_factory({name!r}, 'module:function')"
            )
        known = ", ".join(self.keys()) or "none"
        raise JobError(f"no service {name!r}; registered are: {known}. Register it: with_service({name!r}, object)")

    def has(self, key: ServiceKey) -> bool:
        """Whether `get` knows the key, even if only to say that it is in another process."""
        name = key_text(key)
        return name in self._objects or name in self._factories or name in self._elsewhere

    def keys(self) -> list[str]:
        """Keys that can be had here, sorted."""
        return sorted({*self._objects, *self._factories})

    @property
    def factories(self) -> Mapping[str, str]:
        """Import paths by key."""
        return self._factories

    @property
    def objects(self) -> list[str]:
        """Keys of services that only this process has."""
        return [key for key in self._objects if key not in self._factories]

    @classmethod
    def elsewhere(cls, factories: Mapping[str, str], objects: Iterable[str]) -> "Services":
        """The same keys in a worker process: factories work, objects are refused with advice."""
        services = cls()
        services._factories = dict(factories)
        services._elsewhere = frozenset(objects)
        return services

    def _new(self, key: ServiceKey) -> str:
        if self.has(key):
            raise InvalidConfiguration(f"a service {key_text(key)!r} is registered already")
        return key_text(key)


def _make(key: str, path: str) -> Any:
    try:
        factory = resolve(path)
    except InvalidConfiguration as error:
        raise JobError(f"service {key!r}: its factory {path!r} cannot be found: {error}") from error
    return factory()
