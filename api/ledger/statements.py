"""SQL of the projections: built from column names, each idempotent by the journal's sequence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import TextClause, text

from core.types.clock import NS_PER_S, NS_PER_US


def insert(table: str, columns: str, json_columns: str = "", conflict: str = "DO NOTHING") -> TextClause:
    """INSERT with a parameter for each column (names apart by blanks); those of json_columns are cast to jsonb.

    conflict is what follows ON CONFLICT.
    """
    names = [*columns.split(), *json_columns.split()]
    values = [f":{name}" for name in columns.split()] + [f"CAST(:{name} AS jsonb)" for name in json_columns.split()]
    return text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)}) ON CONFLICT {conflict}")  # noqa: S608 constants only


def upsert(table: str, key: str, columns: str) -> TextClause:
    """INSERT, or UPDATE of all but the key (names apart by blanks) when this entry is later than the row's."""
    assignments = ", ".join(f"{name} = excluded.{name}" for name in columns.split())
    later = f"{table}.sequence < excluded.sequence OR {table}.engine_id <> excluded.engine_id"
    return insert(
        table, f"{key} {columns}", conflict=f"({', '.join(key.split())}) DO UPDATE SET {assignments} WHERE {later}"
    )


def json_text(value: Any) -> str | None:
    """For a jsonb parameter; None stays NULL."""
    return None if value is None else msgspec.json.encode(value).decode()


def json_list(values: Sequence[Any]) -> str:
    return msgspec.json.encode(values).decode()


def utc(timestamp_ns: int) -> datetime:
    """For timestamptz columns, which hold microseconds."""
    seconds, rest_ns = divmod(timestamp_ns, NS_PER_S)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // NS_PER_US)
