"""The contract suite: the checks that every plugin must pass, built in or not."""
