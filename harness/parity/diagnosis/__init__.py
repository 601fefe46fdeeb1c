"""Find where a failing build first departs, and save the smallest case that shows it."""
