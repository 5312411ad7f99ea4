"""The disk door: SQLite. Knows rows, entries and transactions; not what they mean."""
