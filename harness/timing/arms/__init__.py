"""The arms of a case: what is timed beside the candidate."""
