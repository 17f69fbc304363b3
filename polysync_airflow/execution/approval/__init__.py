"""The approval of model packages: their shapes, and the decision after each poll of one."""
