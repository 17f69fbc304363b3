"""Apache Airflow provider for Polysync's Amazon SageMaker integration."""

__version__ = "0.1.0"
