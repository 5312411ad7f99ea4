"""A cluster, those who use it, one life from its first to its last moment, and many lives. Knows all the others."""
