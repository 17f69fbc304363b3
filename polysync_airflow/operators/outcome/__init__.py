"""What a Start task reports: XComs, the steps of the execution with their logs, and the task's error."""
