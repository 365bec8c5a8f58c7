"""Bringing the broker to what the table of objects says; the only room that knows kombu."""
