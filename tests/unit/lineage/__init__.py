"""What OpenLineage is told about executions."""
