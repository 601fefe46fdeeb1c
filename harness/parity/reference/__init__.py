"""What the reference says, computed once and from an implementation of its own."""
