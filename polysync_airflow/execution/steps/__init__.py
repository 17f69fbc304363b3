"""The steps of an execution: AWS's list of them, the XComs that are made of it, and their progress."""
