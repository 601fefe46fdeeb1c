"""Everything that touches a clock, and the statistics that judge what it said."""
