"""The kinds of columns our tables are made of, and the metadata they belong to. No table stands here."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData

from hearth.store.sql.types import Moment, StringList, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def sequence_column() -> Column[int]:
    """The insertion order, and the primary key."""
    # SQLite numbers rows by itself only where the type is exactly INTEGER.
    return Column("sequence", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


def text_column(name: str) -> Column[str]:
    """Text; unset is `""`."""
    return Column(name, Words(), nullable=False)


def number_column(name: str) -> Column[int]:
    """A whole number of 64 bits."""
    return Column(name, BigInteger(), nullable=False)


def flag_column(name: str) -> Column[bool]:
    """True or false."""
    return Column(name, Boolean(), nullable=False)


def moment_column(name: str, *, nullable: bool = False) -> Column[Any]:
    """A point in time."""
    return Column(name, Moment(), nullable=nullable)


def list_column(name: str) -> Column[Any]:
    """A list of texts."""
    return Column(name, StringList(), nullable=False)
