"""The rules that decide how far an answer may be from the reference."""
