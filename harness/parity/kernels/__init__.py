"""Judge one kernel against its eager twin: values, memory, launches, compilation."""
