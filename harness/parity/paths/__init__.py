"""The execution paths that must agree: prefill and decode, prefixes, padding, replayed graphs."""
