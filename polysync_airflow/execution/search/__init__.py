"""The search for an execution that others have started: which one is looked for, and until when."""
