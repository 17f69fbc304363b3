"""The files of the tab "SageMaker", its plugin and its endpoints."""
