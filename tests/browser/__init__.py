"""What a person sees in a real Airflow UI: the tab, the page, and forms."""
