"""The endpoints of the tab and the page of all executions, with FAB as auth manager."""
