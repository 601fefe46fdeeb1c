"""Where cases run."""
