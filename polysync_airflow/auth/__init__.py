"""
How an Airflow connection becomes AWS credentials.

``connection`` has the fields and the sign-in methods, ``sts`` the tokens of Entra ID
and of files, and the requests to STS and to the host with their refresh, ``allow_list``
what the deployment allows a connection to name, also one of type ``aws``. ``base_hook``
signs in, and follows the connection of a process that runs for months; ``iam_policies``
has the policies, and the Test button, ``pipeline_role`` what a pipeline's role needs.
"""
