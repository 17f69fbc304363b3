"""What the steps of an execution have made and used: from their jobs, and from the files that these wrote."""
