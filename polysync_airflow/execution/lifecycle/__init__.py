"""The life of an execution: what a try does, from the records of earlier tries to its own end."""
