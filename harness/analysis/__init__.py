"""Judge records that exist: verdicts, comparisons, history. Pure; nothing here runs a model."""
