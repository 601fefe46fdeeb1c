"""Many runs: whether tonight's speed is still that of the nights before, and since which commit it is not."""
