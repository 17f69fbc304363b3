"""
The tab "SageMaker" of a task instance in the Airflow UI, and the page "SageMaker" with
all executions.

``plugin`` is the Airflow plugin, ``app`` its application in the API server with the
files and the endpoint that stores what the next clear does. The JavaScript modules in
``static/`` need no build step: Airflow's REST API (``airflow_api.js``), the checks of
what it returns (``validation.js``, ``execution.js``, ``results.js``), the refresh
(``polling.js``), the earlier runs of the task (``history.js``), all executions
(``executions.js``), what is shown (``sagemaker.js``, ``sagemaker_tab.js``,
``executions_page.js``, ``steps.js``, ``callback_step.js``, ``mapped_tasks.js``,
``comparison.js``, ``chart.js``, ``components.js``, ``notices.js``, ``format.js``,
``styles.js``), the buttons (``actions.js``) and what they send (``actions_api.js``).
"""
