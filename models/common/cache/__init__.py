"""Key-value caches, their layouts, and prefixes that are shared."""
