"""Which journal the settings ask for, and that it is the one that the folder holds: positions of one don't go on in the
other."""

from __future__ import annotations

import structlog

from core.config import ConfigurationError, Settings
from core.storage.journal import Journal, JournalDamagedError, JournalLockedError
from core.storage.journal_files import SEGMENT_SUFFIX, JournalFolder
from core.storage.journal_rocksdb import DATABASE_FOLDER, RocksdbMissingError, RocksJournal
from core.storage.journal_store import JournalStore

SEGMENTS, ROCKSDB = "segments", "rocksdb"

_log = structlog.get_logger("engine")


def open_journal(settings: Settings, folder: JournalFolder, archive: JournalFolder | None) -> JournalStore:
    """Lock and verify it. folder is settings.paths.journal.

    Raises ConfigurationError, which says what is wrong with the choice, the folder or the records, and the cure.
    """
    _check_choice(settings, folder)
    try:
        journal = _open(settings, folder, archive)
    except RocksdbMissingError as error:
        raise ConfigurationError(f"journal.backend: {error}") from error
    except (JournalDamagedError, JournalLockedError) as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        raise ConfigurationError(f"{settings.paths.journal}: the journal can't be opened: {error}") from error
    if journal.torn_tail is not None:
        tail = journal.torn_tail
        _log.warning("journal_torn_tail_cut", path=tail.path, offset=tail.offset, length=tail.length)
    return journal


def _open(settings: Settings, folder: JournalFolder, archive: JournalFolder | None) -> JournalStore:
    if settings.journal.backend == ROCKSDB:
        return RocksJournal.open(settings.paths.journal, settings.engine.engine_id)
    return Journal.open(folder, settings.engine.engine_id, archive=archive)


def _check_choice(settings: Settings, folder: JournalFolder) -> None:
    is_rocks, path = settings.journal.backend == ROCKSDB, settings.paths.journal
    if is_rocks and settings.journal.archive:
        raise ConfigurationError(
            'journal.archive: a journal in RocksDB can\'t be archived. Empty it, or set journal.backend = "segments".'
        )
    if is_rocks and folder.names(SEGMENT_SUFFIX):
        raise _of_another(settings, SEGMENTS)
    if not is_rocks and (path / DATABASE_FOLDER).is_dir():
        raise _of_another(settings, ROCKSDB)


def _of_another(settings: Settings, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"{settings.paths.journal}: a journal with journal.backend {found!r} lies there, and the settings say "
        f"{settings.journal.backend!r}. Set it back, or use another VELOZ_HOME: positions and approvals of one can't "
        "go on in the other."
    )
