"""The beliefs by subject, each with its check. An experiment acts once, and several checks read its facts."""
