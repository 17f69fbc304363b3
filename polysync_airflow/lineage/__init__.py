"""What OpenLineage is told about an execution."""
