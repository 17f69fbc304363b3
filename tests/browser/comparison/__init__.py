"""What the tab says of a run beside the earlier ones."""
