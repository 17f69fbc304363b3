"""
The tab "SageMaker" of a task instance in the Airflow UI.

``plugin`` is the Airflow plugin, ``app`` its application in the API server with the files and the endpoint
that stores what the next clear does. The JavaScript modules in ``static/`` need no build step: Airflow's REST
API (``airflow_api.js``), the checks of what it returns (``validation.js``, ``execution.js``, ``results.js``),
the refresh (``polling.js``), the earlier runs of the task (``history.js``), what is shown
(``sagemaker_tab.js``, ``steps.js``, ``comparison.js``, ``chart.js``, ``components.js``, ``format.js``,
``styles.js``), the buttons (``actions.js``) and what they send (``actions_api.js``).
"""
