"""Define what is recorded and store it. No torch."""
