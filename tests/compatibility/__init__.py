"""What users see and what is stored, so that a change of it is a decision."""
