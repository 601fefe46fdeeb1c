"""Everything that proves a build right."""
