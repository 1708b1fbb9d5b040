"""A module with a context variable, which a worker imports."""

from contextvars import ContextVar

user: ContextVar[str] = ContextVar("user")
