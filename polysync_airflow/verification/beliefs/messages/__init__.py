"""The beliefs of what comes in a queue, with the inbox through which all of their checks read it."""
