"""How the random weights of a reference are made to look like trained ones."""
