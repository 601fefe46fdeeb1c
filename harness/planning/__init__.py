"""Turn settings into a plan: every case with its cost, every skip with its reason."""
