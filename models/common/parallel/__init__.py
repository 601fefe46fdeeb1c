"""One model held by several ranks."""
