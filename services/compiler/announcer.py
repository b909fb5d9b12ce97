"""Tells the registry which languages can be compiled, so that it refuses a function in any other at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.common.logs import logger
from libs.common.postgres import Database
from libs.common.queue import COMPILATION_RESULTS, Queue
from services.compiler.languages import Language


class Announcer:
    """Announces the languages of this compiler by the queue of results."""

    def __init__(self, database: Database, languages: Mapping[str, Language]) -> None:
        self._database = database
        self._languages = languages
        self._results = Queue(COMPILATION_RESULTS)
        self._announced: Sequence[Mapping[str, Any]] = ()

    async def announce_changes(self) -> None:
        """Sends what the toolchains say now, unless that is what was sent last."""
        found = [_announced(language) for language in self._languages.values()]
        if found == self._announced:
            return
        async with self._database.transaction() as transaction:
            await self._results.send(transaction, {"type": "LANGUAGES", "languages": found})
        self._announced = found
        logger().info("languages", available=[one["id"] for one in found if one["available"]])


def _announced(language: Language) -> Mapping[str, Any]:
    toolchain = language.toolchain()
    return {"id": language.id, "name": language.name, "available": toolchain.available, "install_hint": toolchain.install_hint}
