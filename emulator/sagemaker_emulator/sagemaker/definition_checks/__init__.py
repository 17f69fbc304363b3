"""
Checks pipeline definitions as CreatePipeline and UpdatePipeline do.

Others import `check`, and `rules` to check the request of a step that starts. The
sources of the rules:

- The ``Arguments`` of a step are the request that starts its job, without the name of
  the job, and its properties are the answer of the matching Describe operation: the
  service models of botocore have both.
  https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps.html
- AWS's schema has the members of definitions, parameters, steps and conditions:
  https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
- What the SageMaker Python SDK writes is accepted where the schema is older.
- https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html and
  https://docs.aws.amazon.com/general/latest/gr/sagemaker.html have limits and quotas.

``docs/clients-and-services.md`` has a table of what is checked, and what is not.
"""
