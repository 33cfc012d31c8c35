"""The root folders that the spawner has ready: of the host's system, and of others as they are asked for."""

import os

from hearth.executor.sandbox import root
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.oci import Oci

SYSTEMS_MAX = 64
"""Root folders kept at the same time; each is a mount namespace or a handful of mounts."""


class Systems:
    """Root folders by the host folder they come from, made when first asked for (some milliseconds).

    A folder that was replaced by another since (a runtime installed anew) gets a new one.
    """

    def __init__(self, config: SpawnerConfig, bases: root.Bases, oci: Oci | None) -> None:
        """Make the one of the host's own system. Raises OSError."""
        self._bases = bases
        self._oci = oci
        self._in_user_namespace = bool(config.outer_uids)
        self._own = root.build_template(self._in_user_namespace), oci.root if oci else ""
        self._others: dict[str, tuple[tuple[int, int], root.Template, str]] = {}

    def find(self, path: str) -> tuple[root.Template, str]:
        """The template, and where `oci` finds it, for a system at `path` (`""` = the host's). Raises OSError."""
        if not path:
            return self._own
        system, folder = self._bases.open_system(path)
        known = self._others.get(path)
        if known is not None and known[0] == folder:
            os.close(system)
            return known[1], known[2]
        if known is not None:
            self._forget(path)
        elif len(self._others) >= SYSTEMS_MAX:
            self._forget(next(iter(self._others)))
        if self._oci is not None:
            template, place = self._own[0], self._oci.add_root(system)
            os.close(system)
        else:
            template, place = root.build_template(self._in_user_namespace, system), ""
        self._others[path] = (folder, template, place)
        return template, place

    def _forget(self, path: str) -> None:
        """Let go of a template; sandboxes made of it have copies of their own."""
        _, template, place = self._others.pop(path)
        if self._oci is None:
            os.close(template.namespace_fd)
        else:
            self._oci.drop_root(place)
